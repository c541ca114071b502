#include "runtime/plan/step_clock.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "runtime/validate.h"

namespace sluice {
namespace {

/// From a group's first rank to its last, both counted, at most.
int64_t span(const std::string& group, const MeshShape& shape) {
  if (group == "tp") return shape.tp;
  if (group == "experts") return int64_t{shape.ep} * shape.etp;
  return shape.world();
}

/// `times` times what a longer plan has beyond a shorter one is added to it.
void extend(StepPlan& longer, const StepPlan& shorter, int64_t times) {
  const double more = static_cast<double>(times);
  longer.seconds += more * (longer.seconds - shorter.seconds);
  for (auto& [name, op] : longer.ops) {
    const auto before = shorter.ops.find(name);
    const StepPlan::Op less = before == shorter.ops.end() ? StepPlan::Op{} : before->second;
    op.calls += more * (op.calls - less.calls);
    op.flops += more * (op.flops - less.flops);
    op.bytes += more * (op.bytes - less.bytes);
    op.seconds += more * (op.seconds - less.seconds);
  }
  for (auto& [operation, calls] : longer.calls) {
    const auto before = shorter.calls.find(operation);
    const StepPlan::Calls less = before == shorter.calls.end() ? StepPlan::Calls{} : before->second;
    calls.bytes_sent += times * (calls.bytes_sent - less.bytes_sent);
    calls.seconds += more * (calls.seconds - less.seconds);
    calls.exposed += more * (calls.exposed - less.exposed);
  }
}

/// For plans of what is done, whatever time it takes.
class NoTime : public OpSpeed {
  double seconds(const OpCost&) const override { return 0; }
};

}  // namespace

double StepPlan::flops() const {
  double sum = 0;
  for (const auto& [name, op] : ops) sum += op.flops;
  return sum;
}

double StepPlan::exposed() const {
  double sum = 0;
  for (const auto& [operation, each] : calls) sum += each.exposed;
  return sum;
}

void StepClock::op(const OpCost& cost) {
  const double seconds = speed_.seconds(cost);
  StepPlan::Op& op = plan_.ops[cost.op];
  op.calls += 1;
  op.flops += cost.flops;
  op.bytes += cost.bytes;
  op.seconds += seconds;
  plan_.seconds += seconds;
}

bool StepClock::within_node(const GroupCall& call) const {
  return span(call.group.name(), shape_) <= network_.ranks_a_node;
}

double StepClock::duration(const GroupCall& call) const {
  const bool within = within_node(call);
  const Link& link = within ? network_.within_node : network_.between_nodes;
  double bytes = static_cast<double>(call.bytes_sent), inside = 0;
  // An exchange leaves the node only for those outside.
  if (!within && std::string_view(call.operation) == "all_to_all") {
    const double neighbours = static_cast<double>(network_.ranks_a_node) - 1;
    inside = bytes * std::min(1.0, neighbours / (call.group.size() - 1.0));
    bytes -= inside;
  }
  const double meetings = std::ceil(std::log2(static_cast<double>(call.group.size())));
  return meetings * link.latency_s() +
         std::max(bytes / link.bytes_per_s(), inside / network_.within_node.bytes_per_s());
}

void StepClock::after(const GroupCall& call) {
  if (call.group.size() == 1) return;
  double& free_at = free_at_[within_node(call)];
  const double takes = duration(call);
  StepPlan::Calls& calls = plan_.calls[{call.group.name(), call.operation}];
  calls.bytes_sent += call.bytes_sent;
  calls.seconds += takes;
  if (network_.takes_core) {
    calls.exposed += takes;
    plan_.seconds += takes;
    return;
  }
  free_at = std::max(plan_.seconds, free_at) + takes;
  ends_[{&call.group, call.number}] = free_at;
}

void StepClock::before_wait(const GroupCall& call) {
  const auto found = ends_.find({&call.group, call.number});
  if (found == ends_.end()) return;
  const double waits = std::max(0.0, found->second - plan_.seconds);
  ends_.erase(found);
  plan_.seconds += waits;
  plan_.calls[{call.group.name(), call.operation}].exposed += waits;
}

StepPlan plan_step(DryRun& rank, const OpSpeed& speed, const Network& network, const MeshShape& shape, bool logged) {
  const auto plan_of = [&](int64_t micro_steps) {
    StepClock clock(speed, network, shape);
    rank.step(micro_steps, clock, logged);
    return clock.plan();
  };
  const int64_t micro_steps = rank.micro_steps();
  if (micro_steps <= 3) return plan_of(micro_steps);
  const StepPlan two = plan_of(2);
  StepPlan all = plan_of(3);
  extend(all, two, micro_steps - 3);
  return all;
}

std::map<std::pair<std::string, std::string>, int64_t> planned_traffic(const TrainConfig& config, int rank,
                                                                       bool logged) {
  DryRun dry(config, rank);
  Network network;
  for (Link* link : {&network.within_node, &network.between_nodes}) link->set_bytes_per_s(1);
  std::map<std::pair<std::string, std::string>, int64_t> sent;
  for (const auto& [operation, calls] : plan_step(dry, NoTime(), network, mesh_shape(config), logged).calls) {
    if (calls.bytes_sent > 0) sent[operation] = calls.bytes_sent;
  }
  return sent;
}

}  // namespace sluice
