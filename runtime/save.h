#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <future>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "configs/manifest.pb.h"
#include "configs/train.pb.h"
#include "kernels/core/stream.h"
#include "runtime/checkpoint/shard_snapshot.h"
#include "runtime/optimizer.h"

namespace sluice {

/// The run that checkpoints are of. What it refers to must outlive them.
struct SavedRun {
  const std::string& run_dir;
  const TrainConfig& config;
  const ModelState& model;
  const Optimizer& optimizer;
  const Mesh& mesh;
  const std::string& tokenizer_text;  ///< of tokenizer.json; empty: none is kept
  DataState data{};                   ///< without a cursor
  /// Called on rank 0 before a manifest is written, from another thread: what must be on disk before the checkpoint.
  std::function<void()> before_commit{};
};

/// How far a run is.
struct SavedPosition {
  int64_t step = 0;             ///< updates done
  int64_t dropped_samples = 0;  ///< passed over, beside those that the updates have used
  StabilityState stability{};
  /// Metrics of `step` as a line of metrics.jsonl, which still lacks them since the evaluation after that step is not
  /// done; empty: all is logged.
  std::string unlogged{};
};

/// What this rank of the mesh alone writes.
std::vector<OwnedElements> owned_elements(const ModelState& model, const Optimizer& optimizer, const Mesh& mesh);

/// Writes the checkpoints of a run while it goes on, one at a time. Each rank copies what it owns and writes its shard
/// from the copy on a thread of its own; when all shards are on disk, rank 0 writes the manifest, which makes the
/// checkpoint exist, and removes older ones. One that cannot be written, or would hold values that are not finite, is
/// warned of, noted in audit.jsonl and removed. Every rank of the mesh makes the same calls.
class CheckpointSaver {
 public:
  /// Reserves memory for the copy, as large as this rank's shard.
  explicit CheckpointSaver(const SavedRun& run);
  /// Gives up what is in flight: a rank that fails alone has something to tell, and the others wait for it.
  ~CheckpointSaver() { stop_.request_stop(); }
  /// Begins to take that memory in the background, when the configuration asks for checkpoints before the end.
  void take_memory();
  /// Of this rank's shard.
  int64_t shard_bytes() const { return snapshot_.bytes(); }

  /// What happens to weights and moments while a checkpoint is written.
  enum class After { kTrainingGoesOn, kNothingChanges };
  /// Begins the checkpoint of a position, once the one before is written.
  /// Weights must have arrived on every rank. The copy is made, and its memory taken, if training goes on.
  void begin(Stream& s, const SavedPosition& position, After after = After::kTrainingGoesOn);
  /// Goes on with what is in flight if all ranks can; does not wait for files. A checkpoint takes two calls that could.
  void poll();
  /// Waits until nothing is in flight.
  void finish();
  /// Adds to what is in flight that a step is not logged; before the first poll().
  void set_unlogged(const std::string& metrics);
  /// Of what is in flight; -1: nothing.
  int64_t step_in_flight() const { return in_flight_ ? in_flight_->step : -1; }
  /// The longest that one has taken so far, in seconds, as this rank saw it.
  double slowest_s() const { return slowest_s_; }

  /// Why the last checkpoint that could not be written was not, on every rank; empty: all were written.
  std::string failure() const { return failures_.empty() ? "" : failures_.back().second; }
  /// The step of the run's newest checkpoint; -1: there is none. One that a session goes on from has to be told.
  int64_t saved_step() const { return saved_step_; }
  void set_saved_step(int64_t step) { saved_step_ = step; }
  /// The run has gone back to a step: checkpoints of it and of later ones are of what has not happened, and what became
  /// of those no longer matters.
  void go_back(int64_t step) {
    std::erase_if(failures_, [&](const auto& failure) { return failure.first > step; });
    if (saved_step_ >= step) saved_step_ = -1;
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct InFlight {
    int64_t step;
    Manifest manifest;                          // of rank 0, at first without shards
    std::future<ShardSnapshot::Written> shard;  // until all shards are there
    std::future<double> commit;                 // then, of rank 0: the manifest
    Clock::time_point start;
    double blocked_s = 0, cpu_s = 0;
  };

  Manifest head(Isa isa, const SavedPosition& position) const;
  ShardSnapshot::Written write_shard(int64_t step) const;
  bool all_ready();
  /// Waits for this rank's thread, and then for the others'.
  void advance();
  void collect(const ShardSnapshot::Written& own);
  void conclude();
  /// Of what is in flight.
  void give_up(int64_t step, const std::string& reason);
  void note_failure(int64_t step, const std::string& reason);
  /// In audit.jsonl, also those of before that could not be noted then.
  void note_failures();

  const SavedRun run_;
  ProcessGroup& world_;
  Arena staging_;
  ShardSnapshot snapshot_;
  std::stop_source stop_;
  std::vector<std::pair<int64_t, std::string>> failures_;  // steps, and what is to be told
  int64_t saved_step_ = -1;
  double slowest_s_ = 0;
  std::deque<std::pair<int64_t, std::string>> unnoted_;  // steps and reasons
  std::future<double> populated_;                        // that the copy has its memory, and the CPU time of that
  std::optional<InFlight> in_flight_;                    // the last: its threads use the others
};

}  // namespace sluice
