#pragma once

#include <map>
#include <string>
#include <utility>

#include "parallel/traffic.h"
#include "runtime/plan/dry_run.h"

namespace sluice {

/// What a rank does in a step.
struct StepAccount {
  struct Op {
    double calls = 0, flops = 0, bytes = 0;
  };
  std::map<std::string, Op> ops;
  /// Bytes sent by (group, operation), as TrafficMeter counts them; nothing that is 0. Exact for a step of the
  /// configuration, but for all_to_all, which depends on the routing: see DryRun.
  std::map<std::pair<std::string, std::string>, int64_t> bytes_sent;

  double flops() const;
};

/// Of a step with all its micro-steps, three of which are run at most: those after the second are alike.
StepAccount account_step(DryRun& rank);

/// The bytes of account_step for a rank of a validated configuration whose experts get equal shares.
std::map<std::pair<std::string, std::string>, int64_t> planned_traffic(const TrainConfig& config, int rank = 0);

}  // namespace sluice
