#pragma once

#include <string>

#include "configs/manifest.pb.h"

namespace sluice {

/// The version that this program writes, and the only one that it reads.
inline constexpr int kManifestVersion = 1;

/// Writes folder/manifest.textproto, which makes the checkpoint exist. Every file that it names must be on disk.
/// Sets the version and the manifest's own hash.
void write_manifest(const std::string& folder, Manifest manifest);

/// Reads and verifies a manifest: its own hash, its version, that shards are there with the right size, and that the
/// pieces of every parameter fit its shape. Throws Error naming file and field.
Manifest read_manifest(const std::string& folder);

}  // namespace sluice
