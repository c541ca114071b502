#pragma once

#include <functional>
#include <optional>
#include <string>

#include "runtime/run_watch.h"
#include "runtime/trained_model.h"

namespace sluice {

/// Where a session of a run begins.
struct RunStart {
  SavedPosition position{};
  std::optional<ResumePoint> resumed{};         ///< where a checkpoint was taken
  std::optional<std::string> restart_reason{};  ///< on rank 0, where an earlier session has left none

  /// Tells and notes why the run does not begin as a new one; on rank 0, once nothing speaks against it any more.
  /// Metrics of a session that has left no checkpoint are set aside.
  void note(const std::string& run_dir) const;
};

/// Fills weights and moments from the run's newest good checkpoint, or with those that a new run starts from. Every
/// rank of the mesh calls it. Throws what resume() does, and AgreedError when the folder holds another run or the
/// initial checkpoint does not fit; of Fault::kPreempted when a rank is asked to stop while it reads.
RunStart fill_model(const std::string& run_dir, const Mesh& mesh, RunWatch& watch, TrainedModel& model, Stream& s,
                    const std::function<bool()>& stop_asked);

}  // namespace sluice
