#include "runtime/generate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/core/philox.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"

namespace sluice {
namespace {

/// Keys and values of every layer for one sequence of at most `capacity` tokens.
std::vector<LayerCache> make_caches(const ModelConfig& config, DType dtype, int64_t capacity, Arena& arena) {
  std::vector<LayerCache> caches(static_cast<size_t>(config.num_layers()));
  const Shape shape{capacity, config.num_key_value_heads(), config.head_dim()};
  for (LayerCache& cache : caches) {
    cache.k = arena.alloc("key_cache", dtype, shape);
    cache.v = arena.alloc("value_cache", dtype, shape);
  }
  return caches;
}

/// The tokens [first, first + tokens.size()) of one document as a batch.
void fill_batch(std::span<const int32_t> tokens, int64_t first, Batch& batch) {
  batch.tokens.assign(tokens.begin(), tokens.end());
  batch.targets.assign(tokens.size(), -1);
  batch.positions.resize(tokens.size());
  std::iota(batch.positions.begin(), batch.positions.end(), static_cast<int32_t>(first));
  batch.document_offsets = {0, static_cast<int32_t>(tokens.size())};
}

/// Takes the chance from ids that must not be drawn: a vocabulary is often padded beyond the tokenizer's.
void forbid_others(const std::vector<bool>& drawable, std::span<double> logits) {
  if (drawable.empty()) return;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (id >= drawable.size() || !drawable[id]) logits[id] = -std::numeric_limits<double>::infinity();
  }
}

/// Draws from softmax(logits / temperature) by inverting its cumulative sum at `uniform`.
int32_t draw(std::span<const double> logits, double temperature, double uniform) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (temperature == 0) return static_cast<int32_t>(best - logits.begin());
  double total = 0;
  for (double logit : logits) total += std::exp((logit - *best) / temperature);
  double left = uniform * total;
  for (size_t i = 0; i < logits.size(); ++i) {
    left -= std::exp((logits[i] - *best) / temperature);
    if (left < 0) return static_cast<int32_t>(i);
  }
  return static_cast<int32_t>(best - logits.begin());
}

/// Incremental evaluation of one sequence.
class Decoder {
 public:
  Decoder(Stream& s, const Mesh& mesh, const Transformer& transformer, const ModelTensors& weights, int64_t capacity)
      : transformer_(transformer),
        weights_(weights),
        ctx_(memory_.context(s, mesh)),
        cache_arena_("key-value cache", MemorySource::kHugePages, physical_memory_bytes()),
        caches_(make_caches(transformer.config(), weights.embed_tokens.dtype, capacity, cache_arena_)) {}

  /// Logits [vocab] after these tokens, which follow those of earlier calls, so many computed at a time.
  std::span<double> extend(std::span<const int32_t> tokens, size_t at_a_time) {
    for (; tokens.size() > at_a_time; tokens = tokens.subspan(at_a_time)) compute(tokens.first(at_a_time), false);
    compute(tokens, true);
    return logits_;
  }

 private:
  void compute(std::span<const int32_t> tokens, bool wants_logits) {
    const ArenaScope kept(ctx_.kept), saved_scope(ctx_.saved), scratch(ctx_.scratch);
    fill_batch(tokens, length_, batch_);
    length_ += static_cast<int64_t>(tokens.size());
    const ModelConfig& config = transformer_.config();
    const int64_t experts = config.has_moe() ? config.moe().num_experts() : 0;
    StepSums sums;
    sums.router = ctx_.scratch.alloc("router_sums", DType::kF64, {config.num_layers(), 3});
    sums.expert_counts = ctx_.scratch.alloc("expert_counts", DType::kI64, {config.num_layers(), experts});
    fill_zero(ctx_.stream, sums.router);
    fill_zero(ctx_.stream, sums.expert_counts);
    transformer_.forward(ctx_, weights_, token_batch(batch_), {}, sums, saved_, &caches_);
    if (!wants_logits) return;

    const Tensor last = saved_.normed.rows(saved_.normed.dim(0) - 1, 1);
    Tensor logits = ctx_.scratch.alloc("logits", last.dtype, {1, config.vocab_size()});
    linear_forward(ctx_.stream, last, weights_.head(), logits);
    logits_.resize(static_cast<size_t>(config.vocab_size()));
    cast(ctx_.stream, logits, {logits_.data(), DType::kF64, Device::kCpu, logits.shape});
  }

  const Transformer& transformer_;
  const ModelTensors& weights_;
  ActivationMemory memory_;
  StepContext ctx_;
  Arena cache_arena_;
  std::vector<LayerCache> caches_;
  TransformerSaved saved_;
  Batch batch_;
  std::vector<double> logits_;
  int64_t length_ = 0;
};

}  // namespace

void generate(Stream& s, const Mesh& mesh, const Transformer& transformer, const ModelTensors& weights,
              std::span<const int32_t> prompt, const GenerateOptions& options,
              const std::function<void(int32_t)>& on_token) {
  ENSURE(!prompt.empty(), "the prompt holds no token");
  const Philox random(options.seed, "generate");
  Decoder decoder(s, mesh, transformer, weights, static_cast<int64_t>(prompt.size()) + options.tokens);
  std::span<double> logits = decoder.extend(prompt, static_cast<size_t>(options.prompt_tokens_at_a_time));
  for (int64_t i = 0; i < options.tokens; ++i) {
    forbid_others(options.drawable, logits);
    const int32_t token = draw(logits, options.temperature, random.uniform(static_cast<uint64_t>(i)));
    on_token(token);
    if (token == options.end_token || i + 1 == options.tokens) return;
    logits = decoder.extend({&token, 1}, 1);
  }
}

}  // namespace sluice
