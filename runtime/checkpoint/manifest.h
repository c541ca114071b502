#pragma once

#include <cstdint>
#include <string>

#include "configs/manifest.pb.h"

namespace sluice {

/// Bytes of a piece that have a checksum of their own, but for what is left at its end.
inline constexpr int64_t kChunkBytes = int64_t{1} << 20;

/// The version that this program writes, and the only one that it reads.
inline constexpr int kManifestVersion = 1;

/// Updates that the moments remember, for the correction of their bias: those of the run, and those before it.
int64_t moment_updates(const Manifest& manifest);

/// Writes folder/manifest.textproto, which makes the checkpoint exist. Every file that it names must be on disk.
/// Sets the version and the manifest's own hash.
void write_manifest(const std::string& folder, Manifest manifest);

/// Reads and verifies a manifest: its own hash, its version, that shards are there with the right size, and that the
/// pieces of every parameter fit its shape. Throws Error naming file and field.
Manifest read_manifest(const std::string& folder);

}  // namespace sluice
