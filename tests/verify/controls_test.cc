#include <gtest/gtest.h>

#include "tests/verify/layouts.h"

namespace sluice {
namespace {

/// What the paper sets beside gates, and the other choices of a block, each alone.
const std::vector<std::vector<std::string>> kControls = {
    {"model.head_output=RMS_NORM"},
    {"model.head_output=SILU"},
    {"model.switch_head={of: V num_experts: 3 top_k: 2}"},
    {"model.switch_head={of: V num_experts: 1 top_k: 1}"},
    {"model.switch_head={of: KV num_experts: 3 top_k: 3}"},
    {"model.sandwich_norm=true"},
    {"model.residual_clip=0.8"},
    {"model.qk_norm=false"},
    {"model.yarn={factor: 4 original_length: 6}"},
};
const std::vector<std::vector<std::string>> kSharedExperts = {
    {"model.moe.shared_expert_intermediate_size=8"},
    {"model.moe.shared_expert_intermediate_size=8", "model.moe.shared_expert_gate=true"},
};

void expect_certified(Layout layout, const std::vector<std::string>& control) {
  layout.gate = "";
  const Certificate certificate = verify_on_threads(layout_config(layout, control));
  const Comparison* different = certificate.first_difference();
  EXPECT_FALSE(different) << layout_text(layout) << " " << control.back() << ": " << different->name << " differs by "
                          << different->error;
}

TEST(Controls, OfThreadGroupsComputeWhatOneRankComputes) {
  Layout tensor_parallel, expert_parallel, copied_heads;
  tensor_parallel.dp = tensor_parallel.tp = 2, tensor_parallel.moe = false;
  expert_parallel.dp = expert_parallel.ep = 2;
  copied_heads.tp = 4, copied_heads.zero = 1;
  for (const std::vector<std::string>& control : kControls) {
    for (const Layout& layout : {tensor_parallel, expert_parallel, copied_heads}) expect_certified(layout, control);
  }
  for (const std::vector<std::string>& control : kSharedExperts) {
    for (const Layout& layout : {expert_parallel, copied_heads}) expect_certified(layout, control);
  }
}

}  // namespace
}  // namespace sluice
