#include "runtime/plan/machine.h"

#include <algorithm>
#include <string_view>

#include "runtime/files/text_message.h"

namespace sluice {
namespace {

Machines all_machines() {
  Machines machines;
  const std::string problems = merge_text(machines_text(), "configs/machines.textproto", machines);
  INVARIANT(problems.empty(), problems);
  return machines;
}

/// Of a machine's peak that this op reaches.
double share_of_peak(const Machine& machine, std::string_view op) {
  if (op == "grouped_gemm") return machine.grouped_matrix_share();
  if (op == "attention_forward" || op == "attention_backward") return machine.attention_share();
  return machine.matrix_share();
}

}  // namespace

std::vector<std::string> machine_names() {
  std::vector<std::string> names;
  const Machines machines = all_machines();
  for (const Machine& machine : machines.machine()) names.push_back(machine.name());
  return names;
}

Machine find_machine(const std::string& name) {
  std::string known;
  const Machines machines = all_machines();
  for (const Machine& machine : machines.machine()) {
    if (machine.name() == name) return machine;
    known += (known.empty() ? "" : ", ") + machine.name();
  }
  ENSURE(false, "--device ", name, " is not known; there are cpu, ", known);
  return {};
}

double Roofline::seconds(const OpCost& cost) const {
  const double peak = dtype_ == DType::kBF16 ? machine_.bf16_flops() : machine_.f32_flops();
  const double computing = cost.flops / (peak * share_of_peak(machine_, cost.op));
  const double moving = cost.bytes / (machine_.memory_bytes_per_s() * machine_.memory_share());
  return machine_.op_s() + std::max(computing, moving);
}

}  // namespace sluice
