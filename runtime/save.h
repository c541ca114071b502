#pragma once

#include <string>
#include <vector>

#include "configs/train.pb.h"
#include "runtime/optimizer.h"

namespace sluice {

/// What a checkpoint keeps of a run.
struct SavedState {
  const TrainConfig& config;
  const ModelState& model;
  const Optimizer& optimizer;
  const Mesh& mesh;
  const std::string& tokenizer_text;  ///< of tokenizer.json; empty: none is kept
  int64_t step;                       ///< updates done
  int64_t sample_cursor;              ///< samples consumed
  Isa isa;
};

/// RUN/checkpoints/step_00001000.
std::string step_folder(const std::string& run_dir, int64_t step);

/// Steps of a run folder's checkpoints, ascending: of the folders that have a manifest, the others do not exist.
std::vector<int64_t> checkpoint_steps(const std::string& run_dir);

/// Writes step_folder: a shard a rank, and the manifest last; what an earlier attempt has left there goes first. Every
/// rank of the mesh calls it; all throw AgreedError when any could not write, and nothing is left of it.
void save_checkpoint(const std::string& run_dir, const SavedState& saved);

/// Removes the oldest checkpoints of a run beyond the newest `keep`, and what is left of those that were not finished.
/// One that cannot be removed is warned of. Rank 0 calls it while nobody writes.
void remove_old_checkpoints(const std::string& run_dir, int64_t keep);

}  // namespace sluice
