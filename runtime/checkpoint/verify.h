#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "configs/manifest.pb.h"
#include "parallel/parameter_record.h"

namespace sluice {

/// What was looked at of a checkpoint, and what is wrong with it.
struct CheckpointVerification {
  int64_t files = 0, bytes = 0;  ///< manifest, shards and tokenizer
  int64_t pieces = 0;
  std::vector<std::string> problems;  ///< each names the file; none: it is good
};

/// The whole parameters of the model that a manifest's configuration describes; throws Error when there is none.
using ModelOfManifest = std::function<std::vector<ParameterRecord>(const Manifest& manifest)>;

/// Compares every byte of a checkpoint's files with every checksum of the manifest, reading each shard once and a chunk
/// at a time, and the pieces with the model, every element of which must be stored once. Goes on after a problem; only
/// when the manifest is damaged, nothing else can be looked at. Other files in the folder do not matter. Throws Error
/// when the folder holds no checkpoint.
CheckpointVerification verify_checkpoint(const std::string& folder, const ModelOfManifest& model_of);

}  // namespace sluice
