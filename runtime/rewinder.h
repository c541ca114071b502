#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/resume.h"
#include "runtime/snapshot_ring.h"
#include "runtime/stability/monitor.h"
#include "runtime/stability/rewind_plan.h"
#include "runtime/step.h"

namespace sluice {

/// Whether some policy takes a run back.
bool may_rewind(const StabilityConfig& config);

/// The run that goes back. What it refers to must outlive whoever does that.
struct RewoundRun {
  const std::string& run_dir;
  const RunIdentity identity;
  const Mesh& mesh;
  ModelState& model;
  TrainStep& train_step;
};

/// Takes a run back to before a spike whose policy asks for that: to the newest state that is far enough back, from
/// memory or from a checkpoint; to the oldest in memory where none is. Nothing is kept in memory unless a policy asks
/// for it. Every rank of the mesh makes the same calls.
class Rewinder {
 public:
  explicit Rewinder(const RewoundRun& run);

  /// Whether spikes of a step take the run back, whose update was skipped as the last of so many in a row (0: it was
  /// not).
  bool wanted(const std::vector<SignalSpike>& spikes, int64_t skips_in_a_row) const;
  /// Whether a copy is to be kept after a step; and at the beginning.
  bool due(int64_t step) const;
  /// Keeps one, if a policy may ever need it.
  void keep(Stream& s, const SavedPosition& position);
  /// Puts weights and moments back to where they were before the spikes of step `now.step`, for which that was wanted,
  /// or before the skips, and notes that. Returns the position to go on from: the samples up to now are dropped. Throws
  /// AgreedError of Fault::kDiverged when the budget is used up, and what resume() does.
  SavedPosition go_back(Stream& s, const SavedPosition& now, const std::vector<SignalSpike>& spikes,
                        int64_t skips_in_a_row = 0);

  /// Of the learning rate of a step.
  double lr_factor(int64_t step) const { return plan_.lr_factor(step); }
  /// Of earlier rewinds, and to go on with that. Throws what RewindPlan does.
  const RewindState& state() const { return plan_.state(); }
  void restore(const RewindState& state) { plan_.restore(state); }

 private:
  /// The newest state of step `latest` or before, or the oldest in memory; tells where it came from.
  SavedPosition load(Stream& s, int64_t latest, std::string& from);

  const RewoundRun run_;
  const StabilityConfig config_;
  RewindPlan plan_;
  std::optional<SnapshotRing> ring_;
};

}  // namespace sluice
