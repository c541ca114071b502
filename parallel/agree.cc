#include "parallel/agree.h"

namespace sluice {

std::string broadcast_string(ProcessGroup& group, std::string text, int root) {
  int64_t bytes = static_cast<int64_t>(text.size());
  group.broadcast({&bytes, DType::kI64, Device::kCpu, {1}}, root).wait();
  text.resize(static_cast<size_t>(bytes));
  group.broadcast({text.data(), DType::kU8, Device::kCpu, {bytes}}, root).wait();
  return text;
}

std::string shared_message(ProcessGroup& group, const AgreedError& error) {
  // One rank knows it.
  int64_t teller = *error.what() ? group.rank() : -1;
  group.all_reduce({&teller, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax).wait();
  return broadcast_string(group, error.what(), static_cast<int>(teller));
}

}  // namespace sluice
