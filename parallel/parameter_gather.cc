#include "parallel/parameter_gather.h"

namespace sluice {

ParameterGather::ParameterGather(const Mesh& mesh, const FlatLayout& layout, Tensor weights)
    : mesh_(mesh),
      layout_(layout),
      weights_(weights),
      parts_(owned_parts(layout, mesh.shape(), mesh.world().rank())),
      events_(layout.buckets().size()) {}

void ParameterGather::start() {
  for (size_t i = 0; i < events_.size(); ++i) {
    const Bucket& bucket = layout_.buckets()[i];
    events_[i] = mesh_.replicas(bucket.replicas)
                     .all_gather(weights_.rows(parts_[i].flat_begin, parts_[i].count),
                                 weights_.rows(bucket.begin, bucket.count));
  }
}

void ParameterGather::wait(int stage) {
  for (size_t i = 0; i < events_.size(); ++i) {
    if (layout_.buckets()[i].stage == stage) events_[i].wait();
  }
}

void ParameterGather::wait_all() {
  for (Event& event : events_) event.wait();
}

}  // namespace sluice
