#pragma once

#include <array>
#include <map>
#include <string>
#include <utility>

#include "parallel/mesh.h"
#include "runtime/plan/dry_run.h"
#include "runtime/plan/machine.h"

namespace sluice {

/// Which ranks reach each other how fast.
struct Network {
  int64_t ranks_a_node = 1;
  Link within_node, between_nodes;
  bool takes_core = false;  ///< what a call moves is moved by the rank that computes, not beside it
};

/// What a rank does in a step, and how long that takes.
struct StepPlan {
  struct Op {
    double calls = 0, flops = 0, bytes = 0, seconds = 0;
  };
  /// Calls to other ranks.
  struct Calls {
    int64_t bytes_sent = 0;  ///< as GroupCall counts them
    double seconds = 0;      ///< under way
    double exposed = 0;      ///< of these, while the rank waited for them
  };
  std::map<std::string, Op> ops;
  std::map<std::pair<std::string, std::string>, Calls> calls;  ///< by (group, operation); of groups of several ranks
  double seconds = 0;

  double flops() const;
  double exposed() const;
};

/// Keeps a rank's time through a planned step: ops follow one another; what a call to other ranks starts goes on beside
/// them, one call of a link after the other, until it is done or waited for.
class StepClock : public PlanObserver {
 public:
  /// All must outlive the clock.
  StepClock(const OpSpeed& speed, const Network& network, const MeshShape& shape)
      : speed_(speed), network_(network), shape_(shape) {}

  void op(const OpCost& cost) override;
  void before(const GroupCall&) override {}
  void after(const GroupCall& call) override;
  void before_wait(const GroupCall& call) override;

  const StepPlan& plan() const { return plan_; }

 private:
  bool within_node(const GroupCall& call) const;
  double duration(const GroupCall& call) const;

  const OpSpeed& speed_;
  const Network& network_;
  const MeshShape& shape_;
  StepPlan plan_;
  std::array<double, 2> free_at_{};                                 // of the links between nodes and within
  std::map<std::pair<const ProcessGroup*, int64_t>, double> ends_;  // of what is under way
};

/// A step with all its micro-steps, three of which are run at most: those after the second are alike.
StepPlan plan_step(DryRun& rank, const OpSpeed& speed, const Network& network, const MeshShape& shape,
                   bool logged = true);

/// Bytes that a rank of a validated configuration sends in a step, by (group, operation). Exact, but for all_to_all,
/// which depends on the routing: there experts get equal shares.
std::map<std::pair<std::string, std::string>, int64_t> planned_traffic(const TrainConfig& config, int rank = 0,
                                                                       bool logged = true);

}  // namespace sluice
