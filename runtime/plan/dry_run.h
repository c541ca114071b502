#pragma once

#include <memory>
#include <string>
#include <vector>

#include "configs/train.pb.h"
#include "kernels/core/arena.h"
#include "parallel/process_group.h"

namespace sluice {

/// Is told of all that a planned step does, in order: its ops, and calls to other ranks.
class PlanObserver : public GroupObserver {
 public:
  virtual void op(const OpCost& cost) = 0;
};

/// Of a step that is run for its memory alone.
class Unobserved : public PlanObserver {
 public:
  void op(const OpCost&) override {}
  void before(const GroupCall&) override {}
  void after(const GroupCall&) override {}
};

/// Memory of a rank by its use: an arena, and what was in it at its peak.
struct PlannedArena {
  std::string name;
  int64_t bytes = 0;
  std::vector<Arena::Allocation> peak;  ///< adds up to `bytes`
};

/// Training by one rank of a validated configuration without its memory, its data, a machine and the other ranks: the
/// code of training runs, and its arenas count.
class DryRun {
 public:
  /// `imbalance`: rows that this rank's experts receive in every layer, over an even share. The configuration must
  /// outlive it.
  DryRun(const TrainConfig& config, int rank, double imbalance = 1);
  ~DryRun();

  /// A step of so many micro-steps. `logged`: it is looked at as the steps of a run are that it logs.
  void step(int64_t micro_steps, PlanObserver& observer, bool logged = true);
  /// The forward pass of evaluation over the windows that are computed at a time.
  void evaluate(PlanObserver& observer);
  /// Of a step's micro-steps.
  int64_t micro_steps() const;

  /// What a run takes at its peak that has done all of the above: equal to its arenas' high-water marks.
  std::vector<PlannedArena> memory() const;

 private:
  class Rank;
  std::unique_ptr<Rank> rank_;
};

}  // namespace sluice
