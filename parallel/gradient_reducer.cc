#include "parallel/gradient_reducer.h"

#include <algorithm>
#include <utility>

#include "kernels/elementwise.h"

namespace sluice {

GradientReducer::GradientReducer(const Mesh& mesh, const FlatLayout& layout, ZeroStage zero, DType dtype, Arena& arena)
    : mesh_(mesh),
      layout_(layout),
      zero_(zero),
      parts_(owned_parts(layout, mesh.shape(), mesh.world().rank())),
      flights_(layout.buckets().size()) {
  if (zero_ != ZeroStage::kGradients) {
    for (int stage = 0; stage < layout.stages(); ++stage) stage_offsets_.push_back(layout.stage_begin(stage));
    flat_ = arena.alloc("gradients", dtype, {layout.count()});
    return;
  }
  // The embedding may be used at both ends of the model and keeps its place; the others take turns in two.
  const auto size = [&](int stage) { return layout.stage_end(stage) - layout.stage_begin(stage); };
  int64_t largest = 0;
  for (int stage = 1; stage < layout.stages(); ++stage) largest = std::max(largest, size(stage));
  for (int stage = 0; stage < layout.stages(); ++stage) {
    stage_offsets_.push_back(stage == 0 ? 0 : size(0) + stage % 2 * largest);
  }
  flat_ = arena.alloc("stage_gradients", dtype, {size(0) + 2 * largest});
  shard_ = arena.alloc("gradient_shard", dtype, {shard_count(parts_)});
  arriving_ = arena.alloc("arriving_gradients", dtype, {shard_count(parts_)});
}

Tensor GradientReducer::part_of_stage(int stage, int64_t begin, int64_t count) const {
  return flat_.rows(stage_offsets_[static_cast<size_t>(stage)] + begin - layout_.stage_begin(stage), count);
}

Tensor GradientReducer::place(const ParameterRecord& record) const {
  return part_of_stage(record.stage, record.flat_begin, record.count);
}

template <class Visit>
void GradientReducer::for_each_bucket(int stage, const Visit& visit) {
  for (size_t i = 0; i < flights_.size(); ++i) {
    if (layout_.buckets()[i].stage == stage) visit(i, layout_.buckets()[i]);
  }
}

void GradientReducer::zero_stage(Stream& s, int stage) {
  for (const FlatRange& range : layout_.added_to()) {
    if (range.stage == stage) fill_zero(s, part_of_stage(stage, range.begin, range.count));
  }
}

void GradientReducer::begin_step(Stream& s) {
  if (zero_ == ZeroStage::kGradients) return fill_zero(s, shard_);
  for (int stage = 0; stage < layout_.stages(); ++stage) zero_stage(s, stage);
}

void GradientReducer::begin_micro_step(bool first, bool last) {
  holds_sums_ = !first && zero_ != ZeroStage::kGradients;
  last_ = last;
}

void GradientReducer::before_backward(Stream& s, int stage) {
  if (zero_ != ZeroStage::kGradients) return;
  // The stage that had this place before must have left it.
  for (int other = 0; other < layout_.stages(); ++other) {
    if (stage_offsets_[static_cast<size_t>(other)] != stage_offsets_[static_cast<size_t>(stage)]) continue;
    for_each_bucket(other, [&](size_t i, const Bucket&) { land(s, i); });
  }
  zero_stage(s, stage);
}

void GradientReducer::after_backward(Stream&, int stage) {
  if (!last_ && zero_ != ZeroStage::kGradients) return;
  for_each_bucket(stage, [&](size_t i, const Bucket& bucket) {
    ProcessGroup& group = mesh_.replicas(bucket.replicas);
    const Tensor all = bucket_tensor(bucket);
    const OwnedPart& part = parts_[i];
    switch (zero_) {
      case ZeroStage::kNone:
        flights_[i].event = group.all_reduce(all);
        break;
      case ZeroStage::kOptimizer:
        flights_[i].event = group.reduce_scatter(all, owned(i));
        break;
      case ZeroStage::kGradients:
        flights_[i].event = group.reduce_scatter(all, arriving_.rows(part.shard_begin, part.count));
        break;
    }
    flights_[i].under_way = true;
  });
}

void GradientReducer::land(Stream& s, size_t bucket) {
  Flight& flight = flights_[bucket];
  if (!flight.under_way) return;
  flight.event.wait();
  flight.under_way = false;
  if (zero_ != ZeroStage::kGradients) return;
  const OwnedPart& part = parts_[bucket];
  const Tensor sum = shard_.rows(part.shard_begin, part.count);
  add(s, sum, arriving_.rows(part.shard_begin, part.count), sum);
}

void GradientReducer::finish(Stream& s) {
  for (size_t i = 0; i < flights_.size(); ++i) land(s, i);
}

void GradientReducer::abandon() {
  for (Flight& flight : flights_) {
    if (std::exchange(flight.under_way, false)) flight.event.wait();
  }
}

std::vector<GradientReducer::KnownPart> GradientReducer::known_parts(const ParameterRecord& record) const {
  if (zero_ == ZeroStage::kNone) return {{place(record), true}};
  std::vector<KnownPart> parts;
  const int64_t first = record.flat_begin, last = first + record.count;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const int64_t own_begin = parts_[i].flat_begin, own_end = own_begin + parts_[i].count;
    const int64_t from = std::max(first, own_begin), to = std::min(last, own_end);
    if (from >= to) continue;
    parts.push_back({owned(i).rows(from - own_begin, to - from), true});
    if (zero_ != ZeroStage::kOptimizer) continue;
    parts.push_back({flat_.rows(first, from - first), false});
    parts.push_back({flat_.rows(to, last - to), false});
  }
  if (parts.empty() && zero_ == ZeroStage::kOptimizer) parts.push_back({place(record), false});
  return parts;
}

Tensor GradientReducer::owned(size_t bucket) const {
  const OwnedPart& part = parts_[bucket];
  return zero_ == ZeroStage::kGradients ? shard_.rows(part.shard_begin, part.count)
                                        : flat_.rows(part.flat_begin, part.count);
}

}  // namespace sluice
