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
  m_ = state.alloc("first_moments", model.weights.dtype, moments);
  v_ = state.alloc("second_moments", model.weights.dtype, moments);
  fill_zero(s, m_);
  fill_zero(s, v_);
  squares_ = state.alloc("squared_norms", DType::kF64, {static_cast<int64_t>(parts_.size())});
  squared_norm_ = state.alloc("squared_norm", DType::kF64, {1});
  norm_ = state.alloc("norm", DType::kF64, {1});
  clip_factor_ = state.alloc("clip_factor", DType::kF64, {1});
  skip_ = state.alloc("skip", DType::kI32, {1});
  update_sums_ = state.alloc("update_sums", DType::kF64, {static_cast<int64_t>(model.records.size()) + 1, 3});
  updates_.resize(model.records.size());
  make_ranges();
}

void Optimizer::make_ranges() {
  std::vector<size_t> order(model_.records.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto begin = [&](size_t i) { return model_.records[i].flat_begin; };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return begin(a) < begin(b); });
  for (size_t i : order) {
    const ParameterRecord& r = model_.records[i];
    const bool extends = config_.update_clip() == 0 && !ranges_.empty() &&
                         ranges_.back().weight_decay == r.weight_decay && ranges_.back().lr_scale == r.lr_scale;
    if (!extends) ranges_.push_back({r.flat_begin, 0, r.weight_decay, r.lr_scale, i});
    ranges_.back().count = r.flat_begin + r.count - ranges_.back().begin;
  }
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
  if (m_.count() == model_.layout.count()) return {{model_.weights.rows(0, m_.count()), m_, v_}};
  std::vector<Own> own;
  for (size_t i = 0; i < parts_.size(); ++i) {
    own.push_back({model_.weights.rows(parts_[i].flat_begin, parts_[i].count), owned_m(i), owned_v(i)});
  }
  return own;
}

void Optimizer::global_norm(Stream& s, const GradientReducer& gradients) {
  for (size_t i = 0; i < parts_.size(); ++i) {
    sum_squares(s, gradients.owned(i), squares_.rows(static_cast<int64_t>(i), 1));
  }
  sum(s, squares_, squared_norm_);
  mesh_.world().all_reduce(squared_norm_).wait();
  clip_by_global_norm(s, squared_norm_, config_.clip(), clip_factor_, norm_, skip_);
}

void Optimizer::update_elements(Stream& s, const AdamW& op, int64_t begin, int64_t count, Tensor gradient,
                                int64_t moment) {
  for (const Range& range : ranges_) {
    const int64_t from = std::max(begin, range.begin), to = std::min(begin + count, range.begin + range.count);
    if (from >= to) continue;
    AdamW scaled = op;
    scaled.lr *= range.lr_scale * update_clip_factor(range.record);
    scaled.weight_decay = range.weight_decay ? config_.weight_decay() : 0;
    if (config_.independent_decay() && config_.lr() > 0) scaled.weight_decay /= config_.lr() * range.lr_scale;
    const int64_t at = moment + from - begin;
    adamw(s, scaled, model_.weights.rows(from, to - from), gradient.rows(from - begin, to - from),
          m_.rows(at, to - from), v_.rows(at, to - from), clip_factor_, skip_);
  }
}

void Optimizer::measure(Stream& s, const GradientReducer& gradients, const AdamW& op) {
  fill_zero(s, update_sums_);
  const int64_t records = static_cast<int64_t>(updates_.size());
  const Tensor sums = update_sums_.rows(0, records).reshaped({3 * records});
  const Tensor of_part = update_sums_.rows(records, 1).reshaped({3});
  for (size_t i = 0; i < parts_.size(); ++i) {
    const OwnedPart& part = parts_[i];
    for (int64_t r = 0; r < records; ++r) {
      const ParameterRecord& record = model_.records[static_cast<size_t>(r)];
      const int64_t from = std::max(record.flat_begin, part.flat_begin),
                    to = std::min(record.flat_begin + record.count, part.flat_begin + part.count);
      if (from >= to) continue;
      const int64_t at = from - part.flat_begin, count = to - from;
      adamw_sums(s, op, gradients.owned(i).rows(at, count), owned_m(i).rows(at, count), owned_v(i).rows(at, count),
                 clip_factor_, of_part);
      add(s, sums.rows(3 * r, 3), of_part, sums.rows(3 * r, 3));
    }
  }
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
  if (request.measured || config_.update_clip() > 0) measure(s, gradients, op);
  if (zero_stage(config_) == ZeroStage::kNone) {
    update_elements(s, op, 0, model_.layout.count(), gradients.all(), 0);
  } else {
    for (size_t i = 0; i < parts_.size(); ++i) {
      update_elements(s, op, parts_[i].flat_begin, parts_[i].count, gradients.owned(i), parts_[i].shard_begin);
    }
  }
  return {*norm_.as<double>(), *clip_factor_.as<double>(), *skip_.as<int32_t>() != 0};
}

}  // namespace sluice
