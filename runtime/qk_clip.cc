#include "runtime/qk_clip.h"

#include <algorithm>
#include <limits>

#include "kernels/elementwise.h"
#include "kernels/reduce.h"

namespace sluice {

QkClip::QkClip(double limit, const ModelConfig& config, const Mesh& mesh, ModelState& model)
    : limit_(limit),
      mesh_(mesh),
      model_(model),
      layers_(config.num_layers()),
      heads_(config.num_attention_heads()),
      own_heads_(heads_ / mesh.shape().tp),
      of_head_(config.head_dim() * config.hidden_size()),
      largest_(model.numbers.alloc("largest_logits", DType::kF64, {layers_, heads_})) {
  for (int64_t layer = 0; layer < layers_; ++layer) {
    const std::string name = concat("model.layers.", layer, ".self_attn.q_proj.weight");
    const auto at = std::find_if(model.records.begin(), model.records.end(),
                                 [&](const ParameterRecord& record) { return record.name == name; });
    INVARIANT(at != model.records.end(), name, " is missing");
    queries_.push_back(&*at);
  }
}

void QkClip::begin_step(Stream& s) { fill_zero(s, largest_); }

void QkClip::see_block(StepContext& ctx, int64_t layer, const TokenBatch&, const BlockSaved& block, Tensor) {
  const Tensor of_layer = largest_.rows(layer, 1).reshaped({heads_});
  raise_to_column_maxima(ctx.stream, block.attention.largest, of_layer.rows(first_head(), own_heads_));
}

void QkClip::apply(Stream& s, const Optimizer& optimizer) {
  mesh_.world().all_reduce(largest_.reshaped({layers_ * heads_}), ReduceOp::kMax).wait();
  for (int64_t layer = 0; layer < layers_; ++layer) {
    const ParameterRecord& record = *queries_[static_cast<size_t>(layer)];
    const Optimizer::Moments own = optimizer.moments(record);
    for (int64_t head = 0; head < own_heads_; ++head) {
      const double largest = largest_.as<double>()[layer * heads_ + first_head() + head];
      const int64_t from = std::max(head * of_head_, own.begin), to = std::min((head + 1) * of_head_, own.end);
      if (largest <= limit_ || from >= to) continue;
      scale(s, model_.weights.rows(record.flat_begin + from, to - from), limit_ / largest);
    }
  }
}

}  // namespace sluice
