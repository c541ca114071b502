#include "parallel/agree.h"

namespace sluice {

std::string broadcast_string(ProcessGroup& group, std::string text, int root) {
  int64_t bytes = static_cast<int64_t>(text.size());
  group.broadcast({&bytes, DType::kI64, Device::kCpu, {1}}, root).wait();
  text.resize(static_cast<size_t>(bytes));
  group.broadcast({text.data(), DType::kU8, Device::kCpu, {bytes}}, root).wait();
  return text;
}

}  // namespace sluice
