#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "kernels/core/isa.h"
#include "kernels/core/tensor.h"
#include "kernels/core/thread_pool.h"

namespace sluice {

/// What an op is to a machine: operations, and bytes that it must at least read and write.
struct OpCost {
  const char* op;
  double flops = 0;
  double bytes = 0;
};

/// Takes a machine's place where a step is planned: the ops of its stream are told to it, and do not run.
class OpPlanner {
 public:
  virtual ~OpPlanner() = default;
  virtual void add(const OpCost& cost) = 0;
  /// How often a router chooses each expert: counts [experts] i64 out, with this sum.
  virtual void choose(Tensor counts, int64_t choices) = 0;
};

/// Is told when an op begins and has ended.
class OpObserver {
 public:
  virtual ~OpObserver() = default;
  virtual void before(const OpCost& cost) = 0;
  virtual void after(const OpCost& cost) = 0;
};

/// Where kernels run: an explicit argument of every op. On the CPU work is done when the call returns.
struct Stream {
  Device device = Device::kCpu;
  Isa isa = Isa::kPortable;
  ThreadPool* pool = nullptr;      ///< not owned; needed on the CPU
  OpPlanner* planner = nullptr;    ///< not owned; null: ops run
  OpObserver* observer = nullptr;  ///< of ops that run; not owned; null: nobody looks

  bool is_cuda() const { return device == Device::kCuda; }
  /// Whether the host can look at what an op is given.
  bool on_host() const { return !is_cuda() && !planner; }
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
