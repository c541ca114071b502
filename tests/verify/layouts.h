#pragma once

#include <array>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/philox.h"
#include "parallel/thread_group.h"
#include "runtime/config.h"
#include "runtime/validate.h"
#include "runtime/verify/certificate.h"
#include "tests/parallel/late_group.h"

namespace sluice {

/// A way to lay out a small model, with everything that a layout composes with.
struct Layout {
  int dp = 1, tp = 1, ep = 1, etp = 1;
  int accumulation = 1, zero = 0;
  bool moe = true;
  std::string gate = "ELEMENTWISE";  ///< or HEADWISE, of G1; ALL: one at each position, and all controls; empty: none
  std::string scope = "MICRO_STEP";
  double init_std = 0.3;  ///< of the router too: large values route unevenly
  double bias_rate = 0;   ///< of the selection bias
  double budget = 2;      ///< of rows; small values take several passes
  bool tied = false;
  bool recompute = false;

  int world() const { return dp * tp; }
};

inline std::string layout_text(const Layout& l) {
  return concat("dp", l.dp, "_tp", l.tp, "_ep", l.ep, "_etp", l.etp, "_acc", l.accumulation, "_zero", l.zero,
                l.moe ? "_moe_" + l.scope : "_dense", "_", l.gate.empty() ? "ungated" : l.gate,
                l.bias_rate > 0 ? "_bias" : "", l.budget < 1 ? "_passes" : "", l.init_std > 0.5 ? "_uneven" : "",
                l.tied ? "_tied" : "", l.recompute ? "_recompute" : "");
}
inline std::ostream& operator<<(std::ostream& out, const Layout& l) { return out << layout_text(l); }
inline std::string layout_name(const testing::TestParamInfo<Layout>& info) { return layout_text(info.param); }

/// A model whose sizes every layout of up to 8 ranks divides; kv heads fewer than tp = 4 and 8.
inline TrainConfig layout_config(const Layout& l, const std::vector<std::string>& more = {}) {
  std::vector<std::string> overrides = {concat("mesh.dp=", l.dp),
                                        concat("mesh.tp=", l.tp),
                                        concat("mesh.ep=", l.ep),
                                        concat("mesh.etp=", l.etp),
                                        concat("mesh.expert_budget=", l.budget),
                                        concat("optimizer.zero_stage=", l.zero),
                                        concat("training.global_batch_size=", l.dp * 2 * l.accumulation),
                                        concat("model.init_std=", l.init_std),
                                        concat("model.tie_word_embeddings=", l.tied ? "true" : "false")};
  if (l.moe) overrides.push_back("model.moe.balance_scope=" + l.scope);
  if (l.moe) overrides.push_back(concat("model.moe.selection_bias_rate=", l.bias_rate));
  if (!l.moe) overrides.push_back("model.moe=");
  if (l.gate == "ALL") {
    const char* gates[] = {"{position: G1 sharing: HEAD_SHARED bias: true}", "{position: G2 granularity: HEADWISE}",
                           "{position: G3 combine: ADD input: INPUT_INDEPENDENT}",
                           "{position: G4 granularity: HEADWISE before_qk_norm: false}", "{position: G5 bias: true}"};
    for (int i = 0; i < 5; ++i) overrides.push_back(concat("model.gates[", i, "]=", gates[i]));
    overrides.insert(overrides.end(), {"model.switch_head={of: KV num_experts: 3 top_k: 2}", "model.sandwich_norm=true",
                                       "model.residual_clip=0.8", "model.head_output=RMS_NORM"});
    if (l.moe) {
      overrides.push_back("model.moe.shared_expert_intermediate_size=8");
      overrides.push_back("model.moe.shared_expert_gate=true");
    }
  } else if (!l.gate.empty()) {
    overrides.push_back("model.gates[0]={position: G1 granularity: " + l.gate + "}");
    if (l.moe && l.gate == "HEADWISE") overrides.push_back("model.moe.shared_expert_intermediate_size=8");
  }
  if (l.recompute) overrides.push_back("training.recompute[0]={first_layer: 0 last_layer: 0}");
  overrides.insert(overrides.end(), more.begin(), more.end());
  TrainConfig config = parse_config(R"(
    model {
      hidden_size: 16 num_layers: 2 num_attention_heads: 8 num_key_value_heads: 2 head_dim: 4 vocab_size: 40
      intermediate_size: 24
      moe { num_experts: 8 top_k: 2 moe_intermediate_size: 8 norm_topk_prob: true balance_coef: 0.1 z_coef: 0.01 }
    }
    training { steps: 10 sequence_length: 12 micro_batch_size: 2 }
    optimizer { lr: 1e-2 clip: 0.5 }
    data { train { prefix: "unused" } }
    precision: F64)",
                                    "layout", overrides);
  validate_training(config, l.world());
  return config;
}

/// verify_layout on ranks as threads.
///   late  results of collective calls are there only when they are waited for
inline Certificate verify_on_threads(const TrainConfig& config, GroupObserver* observer_of_rank_0 = nullptr,
                                     bool late = false, const EvidenceOptions& more = {}) {
  Certificate certificate;
  run_ranks(mesh_shape(config).world(), [&](ProcessGroup& threads) {
    LateGroup late_threads(threads);
    ProcessGroup& world = late ? late_threads : threads;
    ThreadPool pool(1);
    Stream s{Device::kCpu, best_isa(), &pool};
    EvidenceOptions options = more;
    if (world.rank() == 0) options.observer = observer_of_rank_0;
    Certificate own = verify_layout(config, world, s, options);
    if (world.rank() == 0) certificate = std::move(own);
  });
  return certificate;
}

/// Each axis alone, then together.
inline std::vector<Layout> chosen_layouts() {
  std::vector<Layout> layouts;
  const auto add = [&](auto change) { change(layouts.emplace_back()); };
  add([](Layout&) {});
  add([](Layout& l) { l.dp = 2; });
  add([](Layout& l) { l.dp = 3; });
  add([](Layout& l) { l.dp = 4, l.accumulation = 3; });
  add([](Layout& l) { l.tp = 2; });
  add([](Layout& l) { l.tp = 2, l.moe = false; });
  add([](Layout& l) { l.tp = 4; });
  add([](Layout& l) { l.tp = 8, l.moe = false, l.tied = true; });
  add([](Layout& l) { l.dp = 2, l.ep = 2; });
  add([](Layout& l) { l.dp = 4, l.ep = 4; });
  add([](Layout& l) { l.dp = 2, l.etp = 2; });
  add([](Layout& l) { l.dp = 4, l.ep = 2, l.etp = 2; });
  add([](Layout& l) { l.budget = 0.4; });
  add([](Layout& l) { l.dp = 2, l.ep = 2, l.budget = 0.3; });
  add([](Layout& l) { l.dp = 4, l.ep = 2, l.etp = 2, l.budget = 0.3; });
  for (int zero : {1, 2}) {
    add([&](Layout& l) { l.dp = 2, l.zero = zero; });
    add([&](Layout& l) { l.dp = 2, l.zero = zero, l.tied = true, l.accumulation = 2; });
    add([&](Layout& l) { l.dp = 2, l.tp = 4, l.zero = zero, l.ep = 2, l.accumulation = 2; });
  }
  add([](Layout& l) { l.dp = 2, l.tp = 2, l.ep = 2, l.scope = "GROUP", l.accumulation = 2; });
  add([](Layout& l) { l.dp = 2, l.tp = 2, l.ep = 2, l.scope = "RUNNING", l.accumulation = 2; });
  add([](Layout& l) { l.dp = 2, l.tp = 2, l.ep = 2, l.recompute = true; });
  add([](Layout& l) { l.dp = 2, l.tp = 2, l.ep = 2, l.bias_rate = 0.01; });
  add([](Layout& l) { l.dp = 4, l.zero = 1, l.bias_rate = 0.01; });
  add([](Layout& l) { l.dp = 2, l.tp = 2, l.gate = "ALL"; });
  add([](Layout& l) { l.tp = 8, l.zero = 1, l.gate = "ALL"; });
  add([](Layout& l) { l.dp = 2, l.ep = 2, l.gate = "ALL"; });
  return layouts;
}

/// Any mix of axes for 1 to 8 ranks, a function of `seed`.
inline Layout random_layout(uint64_t seed) {
  const Philox random(seed, "layout");
  uint64_t draws = 0;
  const auto pick = [&](auto... values) {
    const std::array list{values...};
    return list[static_cast<size_t>(random.uniform(draws++) * static_cast<double>(list.size()))];
  };
  Layout l;
  do {
    l.dp = pick(1, 2, 3, 4, 5, 6, 7, 8), l.tp = pick(1, 2, 4, 8);
    l.ep = pick(1, 2, 4, 8), l.etp = pick(1, 2, 4);
    l.moe = pick(0, 1, 1) == 1;
    if (!l.moe) l.ep = l.etp = 1;
  } while (l.world() > 8 || l.world() % (l.ep * l.etp) != 0);
  l.accumulation = pick(1, 2, 3), l.zero = pick(0, 1, 2);
  l.gate = pick("ELEMENTWISE", "HEADWISE", "ALL", "");
  l.scope = pick("MICRO_STEP", "MICRO_STEP", "GROUP", "RUNNING");
  l.init_std = pick(0.1, 0.3, 0.7);
  l.bias_rate = pick(0.0, 0.0, 0.01);
  l.budget = pick(2.0, 2.0, 1.0, 0.3);
  l.tied = pick(0, 1) == 1, l.recompute = pick(0, 0, 1) == 1;
  return l;
}

/// The distinct ones of the first `seeds`.
inline std::vector<Layout> random_layouts(uint64_t seeds) {
  std::vector<Layout> all;
  std::set<std::string> names;
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    if (names.insert(layout_text(random_layout(seed))).second) all.push_back(random_layout(seed));
  }
  return all;
}

}  // namespace sluice
