#pragma once

#include <functional>
#include <memory>
#include <utility>

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
class [[nodiscard]] Event {
 public:
  Event() = default;
  /// Done once `finish` has run, which the first wait() of this event or a copy sees to.
  explicit Event(std::function<void()> finish) : finish_(std::make_shared<std::function<void()>>(std::move(finish))) {}

  /// Nothing is left to wait for.
  bool done() const { return !finish_ || !*finish_; }

  /// Blocks until the work is done; may be called again. Throws what the work threw.
  void wait() {
    if (!finish_) return;
    if (*finish_) std::exchange(*finish_, nullptr)();
    finish_.reset();
  }

 private:
  std::shared_ptr<std::function<void()>> finish_;
};

}  // namespace sluice
