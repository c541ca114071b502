#include "runtime/optimizer.h"

#include "kernels/reduce.h"

namespace sluice {

Optimizer::Optimizer(const OptimizerConfig& config, const std::vector<ParameterRecord>& records, Arena& state)
    : config_(config),
      squared_norm_(state.alloc("squared_norm", DType::kF64, {1})),
      norm_(state.alloc("norm", DType::kF64, {1})),
      clip_factor_(state.alloc("clip_factor", DType::kF64, {1})),
      skip_(state.alloc("skip", DType::kI32, {1})) {
  for (const ParameterRecord& r : records) {
    const bool extends =
        !ranges_.empty() && ranges_.back().weight_decay == r.weight_decay && ranges_.back().lr_scale == r.lr_scale;
    if (!extends) ranges_.push_back({r.flat_begin, 0, r.weight_decay, r.lr_scale});
    ranges_.back().count = r.flat_begin + r.count - ranges_.back().begin;
  }
}

Optimizer::Result Optimizer::update(Stream& s, ModelState& model, double lr, int64_t step) {
  sum_squares(s, model.gradients, squared_norm_);
  clip_by_global_norm(s, squared_norm_, config_.clip(), clip_factor_, norm_, skip_);
  for (const Range& range : ranges_) {
    AdamW op;
    op.lr = lr * range.lr_scale;
    op.beta1 = config_.beta1();
    op.beta2 = config_.beta2();
    op.epsilon = config_.epsilon();
    op.weight_decay = range.weight_decay ? config_.weight_decay() : 0;
    op.step = step;
    const auto part = [&](Tensor flat) { return flat.rows(range.begin, range.count); };
    adamw(s, op, part(model.weights), part(model.gradients), part(model.m), part(model.v), clip_factor_, skip_);
  }
  return {*norm_.as<double>(), *skip_.as<int32_t>() != 0};
}

}  // namespace sluice
