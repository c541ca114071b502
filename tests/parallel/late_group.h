#pragma once

#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "parallel/process_group.h"

namespace sluice {

/// A link that carries so many bytes a second, one message after the other.
class SlowLink {
 public:
  using Clock = std::chrono::steady_clock;
  explicit SlowLink(double bytes_per_second) : bytes_per_second_(bytes_per_second) {}

  /// When a message that is given to it now has arrived.
  Clock::time_point send(int64_t bytes) {
    const auto takes = std::chrono::duration<double>(static_cast<double>(bytes) / bytes_per_second_);
    free_ = std::max(free_, Clock::now()) + std::chrono::duration_cast<Clock::duration>(takes);
    return free_;
  }

 private:
  const double bytes_per_second_;
  Clock::time_point free_ = Clock::now();
};

/// A group as a GPU has them: calls return at once, and results are there after the wait. Until then they are rubbish,
/// and whoever changed or used them is found out. With a link, a call also takes as long as its bytes do.
class LateGroup : public ProcessGroup {
 public:
  LateGroup(ProcessGroup& inner, SlowLink* link = nullptr)
      : ProcessGroup(inner.rank(), inner.size(), inner.name()), inner_(&inner), link_(link) {}

  std::unique_ptr<ProcessGroup> split(const Color& color, const std::string& name) override {
    auto part = inner_->split(color, name);
    auto late = std::make_unique<LateGroup>(*part, link_);
    late->own_ = std::move(part);
    return late;
  }
  std::unique_ptr<NodeMemory> share(int64_t bytes) override { return inner_->share(bytes); }

 protected:
  Event do_all_reduce(Tensor x, ReduceOp op, SumOrder order) override {
    return later(x, x, 2 * x.bytes(), [=, this] { inner_->all_reduce(x, op, order).wait(); });
  }
  Event do_reduce_scatter(Tensor in, Tensor out, SumOrder order) override {
    return later(in, out, in.bytes(), [=, this] { inner_->reduce_scatter(in, out, order).wait(); });
  }
  Event do_all_gather(Tensor in, Tensor out) override {
    return later(in, out, out.bytes(), [=, this] { inner_->all_gather(in, out).wait(); });
  }
  Event do_all_to_all(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive) override {
    return later(in, out, in.bytes(), [=, this] { inner_->all_to_all(in, send, out, receive).wait(); });
  }
  Event do_broadcast(Tensor x, int root) override {
    return later(x, x, x.bytes(), [=, this] { inner_->broadcast(x, root).wait(); });
  }
  Event do_send(Tensor x, int to) override { return inner_->send(x, to); }
  Event do_receive(Tensor x, int from) override { return inner_->receive(x, from); }
  void do_barrier() override { inner_->barrier(); }

 private:
  static std::vector<char> bytes_of(Tensor t) {
    const char* data = static_cast<const char*>(t.data);
    return {data, data + t.bytes()};
  }
  static void put(const std::vector<char>& bytes, Tensor t) {
    if (!bytes.empty()) std::memcpy(t.data, bytes.data(), bytes.size());
  }

  template <class Call>
  Event later(Tensor in, Tensor out, int64_t bytes, const Call& call) {
    const std::vector<char> given = bytes_of(in), before = bytes_of(out);
    // A NaN of either width; a large negative integer.
    std::memset(out.data, 0xff, before.size());
    const std::vector<char> input = bytes_of(in);  // where out is a part of it, with rubbish there
    const auto arrival = link_ ? link_->send(bytes) : SlowLink::Clock::now();
    return Event([=, this] {
      std::this_thread::sleep_until(arrival);
      INVARIANT(bytes_of(out) == std::vector<char>(before.size(), static_cast<char>(0xff)), "group ", name(),
                ": a result was changed before it was waited for");
      INVARIANT(bytes_of(in) == input, "group ", name(), ": an input was changed while it was under way");
      put(before, out);
      put(given, in);
      call();
    });
  }

  ProcessGroup* inner_;
  std::unique_ptr<ProcessGroup> own_;  ///< of a part
  SlowLink* link_;
};

}  // namespace sluice
