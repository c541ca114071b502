#include "runtime/generate.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "kernels/gemm.h"
#include "tests/runtime/training_fixture.h"

namespace sluice {
namespace {

constexpr int64_t kLength = 30;

/// Untrained weights of the tiny model, in f64 on one rank.
class Generate : public testing::Test {
 protected:
  Generate()
      : stream_{Device::kCpu, best_isa(), &pool_},
        group_(std::move(make_thread_groups(1).front())),
        model_(config_.model(), true, DType::kF64),
        transformer_(config_.model(), {}, DType::kF64, kLength, model_.state) {
    initialise_parameters(model_.records, 1, stream_, model_.weights);
  }

  std::vector<int32_t> generate_from(const std::vector<int32_t>& prompt, const GenerateOptions& options) {
    std::vector<int32_t> tokens;
    generate(stream_, mesh_, transformer_, model_.weight_tensors, prompt, options,
             [&](int32_t token) { tokens.push_back(token); });
    return tokens;
  }

  /// The likeliest token after a text, computed from the whole of it at once.
  int32_t likeliest_after(const std::vector<int32_t>& text) {
    Batch batch;
    batch.tokens = text;
    batch.targets.assign(text.size(), -1);
    batch.positions.resize(text.size());
    std::iota(batch.positions.begin(), batch.positions.end(), 0);
    batch.document_offsets = {0, static_cast<int32_t>(text.size())};
    ActivationMemory memory;
    StepContext ctx = memory.context(stream_, mesh_);
    const ModelConfig& m = config_.model();
    StepSums sums;
    sums.router = ctx.scratch.alloc("router", DType::kF64, {m.num_layers(), 3});
    sums.expert_counts = ctx.scratch.alloc("counts", DType::kI64, {m.num_layers(), m.moe().num_experts()});
    fill_zero(stream_, sums.router);
    fill_zero(stream_, sums.expert_counts);
    TransformerSaved saved;
    transformer_.forward(ctx, model_.weight_tensors, token_batch(batch), {}, sums, saved);
    const Tensor last = saved.normed.rows(saved.normed.dim(0) - 1, 1);
    const Tensor logits = ctx.scratch.alloc("logits", DType::kF64, {1, m.vocab_size()});
    linear_forward(stream_, last, model_.weight_tensors.head(), logits);
    const double* begin = logits.as<double>();
    return static_cast<int32_t>(std::max_element(begin, begin + m.vocab_size()) - begin);
  }

  TrainConfig config_ = tiny_config();
  ThreadPool pool_{1};
  Stream stream_;
  std::unique_ptr<ProcessGroup> group_;
  const Mesh mesh_{{}, *group_};
  ModelState model_;
  Transformer transformer_;
};

TEST_F(Generate, TheCacheGivesWhatTheWholeTextGives) {
  std::vector<int32_t> text = {3, 14, 15, 9, 2, 6};
  GenerateOptions options;
  options.tokens = 20;
  options.temperature = 0;
  for (const int32_t token : generate_from(text, options)) {
    ASSERT_EQ(token, likeliest_after(text)) << "token " << text.size();
    text.push_back(token);
  }
  EXPECT_EQ(text.size(), 26u);
}

TEST_F(Generate, APromptInPartsGivesWhatItGivesAtOnce) {
  const std::vector<int32_t> prompt = {3, 14, 15, 9, 2, 6, 5, 35};
  GenerateOptions options;
  options.tokens = 20;
  options.temperature = 0;
  const std::vector<int32_t> at_once = generate_from(prompt, options);
  for (int64_t at_a_time : {1, 3, 4, 7}) {
    options.prompt_tokens_at_a_time = at_a_time;
    EXPECT_EQ(generate_from(prompt, options), at_once) << at_a_time;
  }
}

TEST_F(Generate, TheSeedDecidesTheDraws) {
  GenerateOptions options;
  options.tokens = 20;
  options.temperature = 1;
  const std::vector<int32_t> first = generate_from({1, 2}, options);
  EXPECT_EQ(generate_from({1, 2}, options), first);
  options.seed = 2;
  EXPECT_NE(generate_from({1, 2}, options), first);
}

TEST_F(Generate, TheEndTokenEndsTheText) {
  GenerateOptions options;
  options.tokens = 20;
  options.temperature = 0;
  const std::vector<int32_t> all = generate_from({1, 2}, options);
  options.end_token = all[7];
  const auto end = std::find(all.begin(), all.end(), all[7]);
  EXPECT_EQ(generate_from({1, 2}, options), std::vector<int32_t>(all.begin(), end + 1));
}

TEST_F(Generate, OnlyIdsThatMayBeDrawnAre) {
  GenerateOptions options;
  options.tokens = 24;
  options.temperature = 3;
  options.drawable = {false, true, true, false, true};
  for (const int32_t token : generate_from({1, 2}, options)) {
    EXPECT_TRUE(token == 1 || token == 2 || token == 4) << token;
  }
}

TEST_F(Generate, AnEmptyPromptIsRefused) { EXPECT_THROW(generate_from({}, {}), Error); }

}  // namespace
}  // namespace sluice
