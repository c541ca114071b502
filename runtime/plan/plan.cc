#include "runtime/plan/plan.h"

#include <algorithm>

#include "runtime/validate.h"

namespace sluice {
namespace {

/// A rank's memory at its peak in a run.
MemoryTable memory_of(DryRun& rank, const TrainConfig& config, const PlanTarget& target) {
  Unobserved nobody;
  if (config.data().eval_size() > 0) rank.evaluate(nobody);
  return memory_table(rank.memory(), target.overhead);
}

template <class Visit>
void for_each_divisor(int64_t of, int64_t most, const Visit& visit) {
  for (int64_t divisor = 1; divisor <= std::min(of, most); ++divisor) {
    if (of % divisor == 0) visit(divisor);
  }
}

}  // namespace

RunPlan plan_run(const TrainConfig& config, const PlanTarget& target) {
  RunPlan plan;
  plan.mesh = mesh_shape(config);
  plan.parameters = count_parameters(config.model());
  plan.flops_per_token = train_flops_per_token(config.model(), config.training().sequence_length());
  const int world = plan.mesh.world();
  const double imbalance = config.plan().imbalance();
  DryRun first(config, 0, imbalance);
  plan.step = plan_step(first, target.speed, target.network, plan.mesh);
  plan.memory = memory_of(first, config, target);
  if (world > 1) {
    DryRun last(config, world - 1, imbalance);
    Unobserved nobody;
    last.step(std::min<int64_t>(2, last.micro_steps()), nobody);
    const MemoryTable memory = memory_of(last, config, target);
    if (memory.total > plan.memory.total) plan.memory = memory;
  }
  const double tokens =
      static_cast<double>(config.training().global_batch_size() * config.training().sequence_length());
  if (target.timed && plan.step.seconds > 0) plan.tokens_per_s = tokens / plan.step.seconds;
  if (target.peak_flops > 0) plan.mfu = plan.tokens_per_s * plan.flops_per_token / (target.peak_flops * world);
  plan.fits = static_cast<double>(plan.memory.total) <= target.memory_bytes;
  return plan;
}

std::vector<RunPlan> plan_layouts(const TrainConfig& config, const PlanTarget& target) {
  const int64_t world = mesh_shape(config).world();
  const int64_t experts = config.model().has_moe() ? config.model().moe().num_experts() : 1;
  std::vector<RunPlan> plans;
  for_each_divisor(world, target.network.ranks_a_node, [&](int64_t tp) {
    for_each_divisor(world, experts, [&](int64_t ep) {
      TrainConfig other = config;
      other.mutable_mesh()->set_dp(world / tp);
      other.mutable_mesh()->set_tp(tp);
      other.mutable_mesh()->set_ep(ep);
      other.mutable_mesh()->set_etp(1);
      try {
        validate_plan(other, static_cast<int>(world), static_cast<int>(config.cpu().threads()));
      } catch (const Error&) {
        return;
      }
      plans.push_back(plan_run(other, target));
    });
  });
  if (config.mesh().etp() != 1) plans.push_back(plan_run(config, target));
  std::stable_sort(plans.begin(), plans.end(), [](const RunPlan& a, const RunPlan& b) {
    if (a.fits != b.fits) return a.fits;
    const bool by_speed = a.fits && a.tokens_per_s != b.tokens_per_s;
    return by_speed ? a.tokens_per_s > b.tokens_per_s : a.memory.total < b.memory.total;
  });
  return plans;
}

}  // namespace sluice
