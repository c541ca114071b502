#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <string>

#include "runtime/checkpoint/reader.h"
#include "runtime/optimizer.h"
#include "runtime/save.h"

namespace sluice {

/// Fills what this rank keeps of a parameter's moments, whatever layout wrote them. Throws what the reader does.
void load_moments(CheckpointReader& reader, const ParameterRecord& record, Optimizer& optimizer);

/// Fills all weights and moments of this rank, padding aside. Throws what the reader does, and `before_each`, which is
/// called before each parameter is read.
void load_state(CheckpointReader& reader, ModelState& model, Optimizer& optimizer,
                const std::function<void()>& before_each = {});

/// Where a run goes on.
struct ResumePoint {
  SavedPosition position{};
  std::string changes{};  ///< of the configuration since, in words; empty: none
};

/// What a run must be to go on with what a folder holds.
struct RunIdentity {
  const TrainConfig& config;
  const std::string& tokenizer_text;  ///< of tokenizer.json; empty: none
  Isa isa;
  DataState data{};  ///< without a cursor
};

/// The newest checkpoint of a run folder that rank 0 sees, below step `before`, on every rank; -1: none. Every rank
/// calls it.
int64_t newest_checkpoint(ProcessGroup& world, const std::string& run_dir,
                          int64_t before = std::numeric_limits<int64_t>::max());

/// Fills weights and moments from a checkpoint, and `point`. Returns what is wrong with its files, on every rank, in
/// which case weights and moments may be anything; empty: nothing. Every rank of the mesh calls it. Throws AgreedError
/// when it is of another run, and what `before_each` throws, which is called before each parameter is read, of one rank
/// on all of them.
std::string load_checkpoint(const std::string& folder, const RunIdentity& identity, const Mesh& mesh, ModelState& model,
                            Optimizer& optimizer, ResumePoint& point, const std::function<void()>& before_each = {});

/// Fills weights and moments from the newest good checkpoint of a run folder. Those that are damaged are set aside as
/// checkpoints/damaged_step_X, each with a warning and a line in audit.jsonl. Nothing: there is no checkpoint, and
/// nothing was filled. Every rank of the mesh calls it. Throws AgreedError when the checkpoint is of another run, or
/// when there are checkpoints and none of them is good, and what `before_each` throws, as above; then all stay where
/// they are.
std::optional<ResumePoint> resume(const std::string& run_dir, const RunIdentity& identity, const Mesh& mesh,
                                  ModelState& model, Optimizer& optimizer,
                                  const std::function<void()>& before_each = {});

}  // namespace sluice
