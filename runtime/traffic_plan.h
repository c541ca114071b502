#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "configs/train.pb.h"

namespace sluice {

/// Bytes that a rank sends in an optimizer step, by (group, operation), as TrafficMeter counts them.
using TrafficPlan = std::map<std::pair<std::string, std::string>, int64_t>;

/// What a step of a validated configuration sends, computed from its sizes alone. Exact, but for all_to_all, which
/// depends on the routing: there the experts are taken to get equal shares. Groups of one rank are left out.
TrafficPlan plan_traffic(const TrainConfig& config, int rank = 0);

}  // namespace sluice
