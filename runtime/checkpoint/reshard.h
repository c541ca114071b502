#pragma once

#include <cstdint>
#include <string>

#include "configs/manifest.pb.h"

namespace sluice {

/// Rewrites a checkpoint to `shards` files of the same size, but for an element and their headers: a copy of it, of
/// which only the division into files and pieces differs; world_size and configuration still tell who trained it. Every
/// byte is verified as it is read, and a buffer is all that is in memory at a time.
///   out           a folder that is empty or not yet there; the manifest is its last file
///   buffer_bytes  whole MiB; small ones read more bytes twice
/// Returns the manifest. Throws Error when the checkpoint is damaged or incomplete, or `out` cannot be written; then
/// nothing is left there.
Manifest reshard_checkpoint(const std::string& folder, const std::string& out, int shards,
                            int64_t buffer_bytes = int64_t{32} << 20);

}  // namespace sluice
