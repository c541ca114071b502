#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/manifest.pb.h"
#include "configs/train.pb.h"
#include "parallel/parameter_record.h"

namespace sluice {

/// A folder under RUN/checkpoints.
struct ListedCheckpoint {
  enum State {
    kGood,        ///< at first sight: the manifest verifies, its shards are there with their sizes
    kUnfinished,  ///< without a manifest
    kDamaged,     ///< a run would not go on from it
    kSetAside,    ///< damaged_step_X: a run did not go on from it
    kReplaced,    ///< replaced_step_X: another is to take its place; until that is whole the next start puts it back
    kOther,       ///< of another name: no run goes on from it
  };
  /// What its manifest says.
  struct Contents {
    int64_t ranks = 0, shards = 0;
    int64_t parameters = 0;  ///< elements of its weights
    MeshConfig mesh;
    int64_t zero_stage = 0;
  };

  std::string folder;  ///< its name
  State state = kGood;
  std::string problem;                            ///< of one that is not good; empty: none is seen at first sight
  int64_t step = -1;                              ///< of the manifest, else of the name; -1: neither tells
  int64_t bytes = 0;                              ///< of all its files
  std::chrono::system_clock::time_point written;  ///< the manifest, else the folder
  std::optional<Contents> contents;               ///< nothing: the manifest is missing or damaged
};

/// All folders under RUN/checkpoints, by step. Throws Error when they cannot be listed.
std::vector<ListedCheckpoint> list_checkpoints(const std::string& run_dir);

/// The whole parameters of the model that a checkpoint's configuration describes. Throws Error naming the manifest when
/// that is not a valid one.
std::vector<ParameterRecord> saved_parameters(const Manifest& manifest, const std::string& folder);

}  // namespace sluice
