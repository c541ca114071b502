#include "parallel/gradient_reducer.h"

#include <algorithm>

namespace sluice {

GradientReducer::GradientReducer(ProcessGroup& dp, Tensor gradients, int64_t bucket_bytes)
    : dp_(dp), gradients_(gradients), bucket_(std::max<int64_t>(bucket_bytes / dtype_bytes(gradients.dtype), 1)) {}

void GradientReducer::reduce() {
  if (dp_.size() == 1) return;
  for (int64_t begin = 0; begin < gradients_.count(); begin += bucket_) {
    dp_.all_reduce(gradients_.rows(begin, std::min(bucket_, gradients_.count() - begin))).wait();
  }
}

}  // namespace sluice
