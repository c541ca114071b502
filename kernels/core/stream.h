#pragma once

#include "kernels/core/isa.h"
#include "kernels/core/tensor.h"
#include "kernels/core/thread_pool.h"

namespace sluice {

/// Where kernels run: an explicit argument of every op. On the CPU work is done when the call returns.
struct Stream {
  Device device = Device::kCpu;
  Isa isa = Isa::kPortable;
  ThreadPool* pool = nullptr;  ///< not owned; needed on the CPU

  bool is_cuda() const { return device == Device::kCuda; }
};

/// Completion of something asynchronous. CPU kernels and blocking collectives return a finished one.
class Event {
 public:
  /// Blocks until the work is done; may be called again.
  void wait() {}
};

}  // namespace sluice
