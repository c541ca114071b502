#include "runtime/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/elementwise.h"
#include "kernels/reduce.h"

namespace sluice {

ZeroStage zero_stage(const OptimizerConfig& config) {
  switch (config.zero_stage()) {
    case 1:
      return ZeroStage::kOptimizer;
    case 2:
      return ZeroStage::kGradients;
    default:
      return ZeroStage::kNone;
  }
}

Optimizer::Optimizer(const OptimizerConfig& config, ModelState& model, const Mesh& mesh, Stream& s)
    : config_(config),
      model_(model),
      mesh_(mesh),
      parts_(owned_parts(model.layout, mesh.shape(), mesh.world().rank())) {
  const bool sharded = zero_stage(config) != ZeroStage::kNone;
  const Shape moments{sharded ? shard_count(parts_) : model.layout.count()};
  Arena& state = model.state;
  const DType exact = exact_dtype(model.weights.dtype);
  if (exact != model.weights.dtype) masters_ = state.alloc("master_weights", exact, moments);
  m_ = state.alloc("first_moments", exact, moments);
  v_ = state.alloc("second_moments", exact, moments);
  fill_zero(s, m_);
  fill_zero(s, v_);
  Arena& numbers = model.numbers;
  squares_ = numbers.alloc("squared_norms", DType::kF64, {static_cast<int64_t>(parts_.size())});
  squared_norm_ = numbers.alloc("squared_norm", DType::kF64, {1});
  norm_ = numbers.alloc("norm", DType::kF64, {1});
  clip_factor_ = numbers.alloc("clip_factor", DType::kF64, {1});
  skip_ = numbers.alloc("skip", DType::kI32, {1});
  update_sums_ = numbers.alloc("update_sums", DType::kF64, {static_cast<int64_t>(model.records.size()) + 1, 3});
  updates_.resize(model.records.size());
  ranges_ = make_ranges(config.update_clip() == 0);
  records_in_order_ = make_ranges(false);
}

std::vector<Optimizer::Range> Optimizer::make_ranges(bool together) const {
  std::vector<size_t> order(model_.records.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto begin = [&](size_t i) { return model_.records[i].flat_begin; };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return begin(a) < begin(b); });
  std::vector<Range> ranges;
  for (size_t i : order) {
    const ParameterRecord& r = model_.records[i];
    const bool extends = together && !ranges.empty() && ranges.back().weight_decay == r.weight_decay &&
                         ranges.back().lr_scale == r.lr_scale;
    if (!extends) ranges.push_back({r.flat_begin, 0, r.weight_decay, r.lr_scale, i});
    ranges.back().count = r.flat_begin + r.count - ranges.back().begin;
  }
  return ranges;
}

int64_t Optimizer::owned_begin(size_t bucket) const {
  const OwnedPart& part = parts_[bucket];
  return m_.count() == model_.layout.count() ? part.flat_begin : part.shard_begin;
}

Optimizer::Moments Optimizer::moments(const ParameterRecord& record) const {
  const int64_t first = record.flat_begin, last = first + record.count;
  if (m_.count() == model_.layout.count()) {
    return {0, record.count, m_.rows(first, record.count), v_.rows(first, record.count)};
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    const OwnedPart& part = parts_[i];
    const int64_t from = std::max(first, part.flat_begin), to = std::min(last, part.flat_begin + part.count);
    if (from >= to) continue;
    const int64_t at = part.shard_begin + from - part.flat_begin;
    return {from - first, to - first, m_.rows(at, to - from), v_.rows(at, to - from)};
  }
  return {0, 0, m_.rows(0, 0), v_.rows(0, 0)};
}

std::vector<Optimizer::Own> Optimizer::own() const {
  if (m_.count() == model_.layout.count()) return {{masters_ ? masters_ : model_.weights.rows(0, m_.count()), m_, v_}};
  std::vector<Own> own;
  for (size_t i = 0; i < parts_.size(); ++i) own.push_back({owned_weights(i), owned_m(i), owned_v(i)});
  return own;
}

Tensor Optimizer::owned_weights(size_t bucket) const {
  const OwnedPart& part = parts_[bucket];
  return masters_ ? masters_.rows(owned_begin(bucket), part.count) : model_.weights.rows(part.flat_begin, part.count);
}

void Optimizer::round_weights(Stream& s) {
  if (!masters_) return;
  if (m_.count() == model_.layout.count()) return cast(s, masters_, model_.weights.rows(0, m_.count()));
  for (size_t i = 0; i < parts_.size(); ++i) {
    cast(s, owned_weights(i), model_.weights.rows(parts_[i].flat_begin, parts_[i].count));
  }
}

void Optimizer::global_norm(Stream& s, const GradientReducer& gradients) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    sum_squares(s, gradients.owned(i), squares_.rows(static_cast<int64_t>(i), 1));
  }
  sum(s, squares_, squared_norm_);
  mesh_.world().all_reduce(squared_norm_).wait();
  clip_by_global_norm(s, squared_norm_, config_.clip(), clip_factor_, norm_, skip_);
}

void Optimizer::pass_over(Stream& s, Pass pass, const AdamW& op, int64_t begin, int64_t count, Tensor gradient,
                          int64_t moment) {
  const int64_t records = static_cast<int64_t>(updates_.size());
  const Tensor of_part = update_sums_.rows(records, 1).reshaped({3});
  for (const Range& range : pass == Pass::kUpdate ? ranges_ : records_in_order_) {
    const int64_t from = std::max(begin, range.begin), to = std::min(begin + count, range.begin + range.count);
    if (from >= to) continue;
    AdamW scaled = op;
    scaled.lr *= range.lr_scale * update_clip_factor(range.record);
    scaled.weight_decay = range.weight_decay ? config_.weight_decay() : 0;
    if (config_.independent_decay() && config_.lr() > 0) scaled.weight_decay /= config_.lr() * range.lr_scale;
    const int64_t at = moment + from - begin;
    const Tensor g = gradient.rows(from - begin, to - from), m = m_.rows(at, to - from), v = v_.rows(at, to - from);
    if (pass == Pass::kMeasure) {
      adamw_sums(s, scaled, g, m, v, clip_factor_, of_part);
    } else {
      const Tensor weights = masters_ ? masters_.rows(at, to - from) : model_.weights.rows(from, to - from);
      adamw(s, scaled, weights, g, m, v, clip_factor_, skip_, pass == Pass::kBoth ? of_part : Tensor{});
    }
    if (pass == Pass::kUpdate) continue;
    const Tensor of_record = update_sums_.rows(static_cast<int64_t>(range.record), 1).reshaped({3});
    add(s, of_record, of_part, of_record);
  }
}

void Optimizer::pass_over(Stream& s, Pass pass, const AdamW& op, const GradientReducer& gradients) {
  const bool has_all = zero_stage(config_) == ZeroStage::kNone;
  const auto others = [&](int64_t begin, int64_t end) {
    if (!has_all || pass == Pass::kMeasure || begin == end) return;
    pass_over(s, Pass::kUpdate, op, begin, end - begin, gradients.all().rows(begin, end - begin), begin);
  };
  int64_t end = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const OwnedPart& part = parts_[i];
    others(end, part.flat_begin);
    pass_over(s, pass, op, part.flat_begin, part.count, gradients.owned(i), owned_begin(i));
    end = part.flat_begin + part.count;
  }
  others(end, model_.layout.count());
}

void Optimizer::collect_updates() {
  const int64_t records = static_cast<int64_t>(updates_.size());
  const Tensor sums = update_sums_.rows(0, records).reshaped({3 * records});
  mesh_.world().all_reduce(sums).wait();
  const double* values = sums.as<double>();
  for (size_t r = 0; r < updates_.size(); ++r, values += 3) {
    const double count = static_cast<double>(model_.records[r].global_count());
    updates_[r] = {values[0], std::sqrt(values[1] / count), std::sqrt(values[2] / count)};
  }
}

double Optimizer::update_clip_factor(size_t record) const {
  const double staleness = updates_[record].staleness, most = config_.update_clip();
  return most > 0 && staleness > most ? most / staleness : 1;
}

Optimizer::Result Optimizer::update(Stream& s, const GradientReducer& gradients, const UpdateRequest& request,
                                    const SummedLoss& lm_loss) {
  global_norm(s, gradients);
  skip_above(s, norm_, 1, request.limits.grad_norm, skip_);
  skip_above(s, lm_loss.sum, lm_loss.per_target, request.limits.lm_loss, skip_);
  AdamW op;
  op.lr = request.lr;
  op.beta1 = config_.beta1();
  op.beta2 = config_.beta2();
  op.epsilon = config_.epsilon();
  op.epsilon_in_root = config_.epsilon_place() == OptimizerConfig::INSIDE_ROOT;
  op.step = earlier_updates_ + request.step;
  const bool clips = config_.update_clip() > 0;
  if (request.measured || clips) fill_zero(s, update_sums_);
  if (clips) {
    pass_over(s, Pass::kMeasure, op, gradients);
    collect_updates();
  }
  const bool measures = request.measured && !clips;
  pass_over(s, measures ? Pass::kBoth : Pass::kUpdate, op, gradients);
  if (measures) collect_updates();
  round_weights(s);
  return {*norm_.as<double>(), *clip_factor_.as<double>(), *skip_.as<int32_t>() != 0};
}

}  // namespace sluice
