#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/models/gate_product.h"
#include "tests/verify/layouts.h"

namespace sluice {
namespace {

/// Every gate that has a meaning, and whether the norm of queries and keys is there.
std::vector<std::vector<std::string>> all_gates() {
  std::vector<std::vector<std::string>> all;
  for (const GateKind& kind : gate_kinds()) {
    for (const GateText& gate : gates_of(kind)) {
      if (!gate.meaningful) continue;
      all.push_back({"model.gates[0]=" + gate.text});
      if (kind.placement == "no_norm") all.back().push_back("model.qk_norm=false");
    }
  }
  return all;
}

/// 40, or as many as SLUICE_GATES says.
size_t gates_wanted() {
  const char* wanted = std::getenv("SLUICE_GATES");
  return wanted ? static_cast<size_t>(std::atoi(wanted)) : 40;
}

/// One step from biases that are not zero. AdamW divides a gradient near zero by its own size: a bias that starts at
/// zero would be little but that gradient's rounding, and so would be what later steps make of it.
EvidenceOptions one_step() {
  return {1, nullptr, [](ModelState& model) {
            for (const ParameterRecord& r : model.records) {
              double* values = model.weights.as<double>() + r.flat_begin;
              if (r.name.find(".bias") != std::string::npos) std::fill(values, values + r.count, 0.25);
            }
          }};
}

TEST(Gates, OfThreadGroupsComputeWhatOneRankComputes) {
  const std::vector<std::vector<std::string>> all = all_gates();
  EXPECT_GT(all.size(), 1000u);
  Layout tensor_parallel, expert_parallel, copied_heads;
  tensor_parallel.dp = tensor_parallel.tp = 2, tensor_parallel.moe = false;
  expert_parallel.dp = expert_parallel.ep = 2;
  copied_heads.tp = 4, copied_heads.moe = false;
  const size_t wanted = std::min(gates_wanted(), all.size());
  for (size_t i = 0; i < wanted; ++i) {
    // Spread over all of them.
    const std::vector<std::string>& gate = all[i * all.size() / wanted];
    std::vector<Layout> layouts = {tensor_parallel, expert_parallel};
    // Gates of keys and values, of which two ranks then hold the same.
    if (gate[0].find(": G2") != std::string::npos || gate[0].find(": G3") != std::string::npos) {
      layouts.push_back(copied_heads);
    }
    for (Layout layout : layouts) {
      layout.gate = "";
      const Certificate certificate = verify_on_threads(layout_config(layout, gate), nullptr, false, one_step());
      const Comparison* different = certificate.first_difference();
      EXPECT_FALSE(different) << layout_text(layout) << " " << gate[0] << ": " << different->name << " differs by "
                              << different->error;
    }
  }
  std::printf("%zu of %zu gates on two layouts or three\n", wanted, all.size());
}

}  // namespace
}  // namespace sluice
