#include "runtime/plan/step_account.h"

#include <algorithm>

namespace sluice {
namespace {

class Accountant : public PlanObserver {
 public:
  void op(const OpCost& cost) override {
    StepAccount::Op& op = account.ops[cost.op];
    op.calls += 1;
    op.flops += cost.flops;
    op.bytes += cost.bytes;
  }
  void before(const GroupCall&) override {}
  void after(const GroupCall& call) override {
    if (call.group.size() > 1 && call.bytes_sent > 0) {
      account.bytes_sent[{call.group.name(), call.operation}] += call.bytes_sent;
    }
  }

  StepAccount account;
};

StepAccount account_of(DryRun& rank, int64_t micro_steps) {
  Accountant accountant;
  rank.step(micro_steps, accountant);
  return accountant.account;
}

}  // namespace

double StepAccount::flops() const {
  double sum = 0;
  for (const auto& [name, op] : ops) sum += op.flops;
  return sum;
}

StepAccount account_step(DryRun& rank) {
  const int64_t micro_steps = rank.micro_steps();
  if (micro_steps <= 3) return account_of(rank, micro_steps);
  const StepAccount two = account_of(rank, 2);
  StepAccount all = account_of(rank, 3);
  const int64_t more = micro_steps - 3;
  for (auto& [name, op] : all.ops) {
    const auto before = two.ops.find(name);
    const StepAccount::Op less = before == two.ops.end() ? StepAccount::Op{} : before->second;
    const double times = static_cast<double>(more);
    op.calls += times * (op.calls - less.calls);
    op.flops += times * (op.flops - less.flops);
    op.bytes += times * (op.bytes - less.bytes);
  }
  for (auto& [operation, bytes] : all.bytes_sent) {
    const auto before = two.bytes_sent.find(operation);
    bytes += more * (bytes - (before == two.bytes_sent.end() ? 0 : before->second));
  }
  return all;
}

std::map<std::pair<std::string, std::string>, int64_t> planned_traffic(const TrainConfig& config, int rank) {
  DryRun dry(config, rank);
  return account_step(dry).bytes_sent;
}

}  // namespace sluice
