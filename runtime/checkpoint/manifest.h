#pragma once

#include <cstdint>
#include <string>

#include "configs/manifest.pb.h"

namespace sluice {

/// Bytes of a piece that have a checksum of their own, but for what is left at its end.
inline constexpr int64_t kChunkBytes = int64_t{1} << 20;

/// The version that this program writes, and the only one that it reads.
inline constexpr int kManifestVersion = 2;

/// Updates that the moments remember, for the correction of their bias: those of the run, and those before it.
int64_t moment_updates(const Manifest& manifest);

/// Writes folder/manifest.textproto, which makes the checkpoint exist. Every file that it names must be on disk.
/// Sets the version and the manifest's own hash.
void write_manifest(const std::string& folder, Manifest manifest);

/// Throws Error unless there is a manifest in the folder.
void check_is_checkpoint(const std::string& folder);

/// Throws Error when a path lies inside of a checkpoint's folder: whoever removes that would remove it.
void check_outside_checkpoints(const std::string& path);

/// Reads and verifies a manifest: its own hash, its version, that shards are there with the right size, and that the
/// pieces of every parameter fit its shape. Throws Error naming file and field, of Fault::kDamage where that is not
/// what was written.
Manifest read_manifest(const std::string& folder);

/// The same without a look at the shards.
Manifest read_manifest_alone(const std::string& folder);

/// Throws Error naming a shard's file when it is missing or has another size than the manifest says.
void check_shard(const ShardFile& shard, const std::string& folder);

/// The text of a checkpoint's tokenizer.json; empty when it keeps none. Throws Error, of Fault::kDamage, when it is not
/// what the manifest says.
std::string read_tokenizer_text(const Manifest& manifest, const std::string& folder);

}  // namespace sluice
