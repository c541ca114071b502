#include "parallel/thread_group.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "parallel/agree.h"
#include "parallel/combine.h"

namespace sluice {
namespace {

/// What one rank shows the others during an operation.
struct Offer {
  Tensor in, out;
  std::span<const RowRun> send;
};

struct alignas(64) Line {
  char bytes[64];
};

class ThreadMemory : public NodeMemory {
 public:
  ThreadMemory(int size, int64_t lines, std::shared_ptr<std::vector<Line>> memory) : memory_(std::move(memory)) {
    for (int rank = 0; rank < size; ++rank) {
      ranks_.push_back(rank);
      parts_.push_back(memory_->data() + rank * lines);
    }
  }

 private:
  std::shared_ptr<std::vector<Line>> memory_;
};

/// What the ranks of a group share. Every operation is: offer, meet, read the others' offers, meet.
class Meeting {
 public:
  explicit Meeting(int size) : offers(static_cast<size_t>(size)) {}

  /// Waits until every rank is here. Throws when a rank has left for good, once nobody uses what this one offers.
  ///   to_use  offers are used by every rank from here on until it says done_using()
  void meet(bool to_use = false) {
    std::unique_lock lock(mutex_);
    check_alive(lock);
    const int64_t round = round_;
    if (++waiting_ == static_cast<int>(offers.size())) {
      waiting_ = 0;
      ++round_;
      if (to_use) users_ = static_cast<int>(offers.size());
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return round_ != round || abandoned_; });
    if (round_ == round) check_alive(lock);
  }

  void done_using() {
    std::lock_guard lock(mutex_);
    if (--users_ == 0) changed_.notify_all();
  }
  /// Waits until all have said so.
  void outlast_users() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return users_ == 0; });
  }

  void abandon() {
    std::lock_guard lock(mutex_);
    abandoned_ = true;
    changed_.notify_all();
    for (const std::weak_ptr<Meeting>& part : all_parts_) {
      if (const auto alive = part.lock()) alive->abandon();
    }
  }

  /// The meeting of a split's color, made by whoever asks first.
  std::shared_ptr<Meeting> part(int color, int size) {
    std::lock_guard lock(mutex_);
    std::shared_ptr<Meeting>& part = parts_[color];
    if (!part) {
      part = std::make_shared<Meeting>(size);
      all_parts_.push_back(part);
    }
    return part;
  }
  /// The memory of all ranks, made by whoever asks first.
  std::shared_ptr<std::vector<Line>> memory(int64_t lines) {
    std::lock_guard lock(mutex_);
    if (!memory_) memory_ = std::make_shared<std::vector<Line>>(static_cast<size_t>(lines));
    return memory_;
  }
  void forget_memory() {
    std::lock_guard lock(mutex_);
    memory_.reset();
  }
  void forget_parts() {
    std::lock_guard lock(mutex_);
    parts_.clear();
  }

  /// Point to point: messages wait in order until they are taken.
  void put(int from, int to, Tensor x) {
    std::lock_guard lock(mutex_);
    const char* bytes = static_cast<const char*>(x.data);
    mail_[{from, to}].emplace_back(bytes, bytes + x.bytes());
    changed_.notify_all();
  }
  void take(int from, int to, Tensor x) {
    std::unique_lock lock(mutex_);
    std::deque<std::vector<char>>& box = mail_[{from, to}];
    changed_.wait(lock, [&] { return !box.empty() || abandoned_; });
    if (box.empty()) check_alive(lock);
    INVARIANT(static_cast<int64_t>(box.front().size()) == x.bytes(), "receive: expected ", x.bytes(), " bytes, got ",
              box.front().size());
    if (x.bytes() > 0) std::memcpy(x.data, box.front().data(), box.front().size());
    box.pop_front();
  }

  std::vector<Offer> offers;

 private:
  void check_alive(std::unique_lock<std::mutex>& lock) {
    if (!abandoned_) return;
    changed_.wait(lock, [&] { return users_ == 0; });
    INVARIANT(false, "another rank has failed");
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0, users_ = 0;
  int64_t round_ = 0;
  bool abandoned_ = false;
  std::map<int, std::shared_ptr<Meeting>> parts_;  // of a split that is under way
  std::vector<std::weak_ptr<Meeting>> all_parts_;
  std::shared_ptr<std::vector<Line>> memory_;
  std::map<std::pair<int, int>, std::deque<std::vector<char>>> mail_;
};

class ThreadGroup : public ProcessGroup {
 public:
  ThreadGroup(int rank, int size, const std::string& name, std::shared_ptr<Meeting> meeting)
      : ProcessGroup(rank, size, name), meeting_(std::move(meeting)) {}

  Event do_all_reduce(Tensor x, ReduceOp op, SumOrder) override {
    exchange({x, x, {}}, "all_reduce", [&] {
      // This rank reduces its part of everybody's buffer and writes it back to everybody.
      const int64_t begin = part_begin(x.count(), rank(), size()), end = part_begin(x.count(), rank() + 1, size());
      for (int r = 0; r < size(); ++r) expect_same(x, offer(r).in);
      const Tensor first = slice(offer(0).in, begin, end);
      std::vector<const void*> terms;
      for (int r = 0; r < size(); ++r) terms.push_back(slice(offer(r).in, begin, end).data);
      combine(x.dtype, op, end - begin, terms, first.data);
      for (int r = 1; r < size(); ++r) copy(first, slice(offer(r).in, begin, end));
    });
    return {};
  }

  Event do_reduce_scatter(Tensor in, Tensor out, SumOrder) override {
    const int64_t n = out.count();
    std::vector<char> sum(static_cast<size_t>(out.bytes()));
    exchange({in, out, {}}, "reduce_scatter", [&] {
      std::vector<const void*> terms;
      for (int r = 0; r < size(); ++r) terms.push_back(slice(offer(r).in, rank() * n, (rank() + 1) * n).data);
      combine(out.dtype, ReduceOp::kSum, n, terms, sum.data());
    });
    copy({sum.data(), out.dtype, Device::kCpu, {n}}, out);
    return {};
  }

  Event do_all_gather(Tensor in, Tensor out) override {
    const int64_t n = in.count();
    exchange({in, out, {}}, "all_gather", [&] {
      for (int r = 0; r < size(); ++r) {
        expect_same(in, offer(r).in);
        const Tensor place = slice(out, r * n, (r + 1) * n);
        // Others are reading what lies in its place already.
        if (place.data != offer(r).in.data) copy(offer(r).in, place);
      }
    });
    return {};
  }

  Event do_all_to_all(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive) override {
    exchange({in, out, send}, "all_to_all", [&] {
      for (int r = 0; r < size(); ++r) {
        const RowStream from(offer(r).in, offer(r).send, rank()), to(out, receive, r);
        INVARIANT(from.left() == to.left(), "rank ", r, " sends ", from.left(), " bytes, rank ", rank(), " expects ",
                  to.left());
        sluice::copy(from, to);
      }
    });
    return {};
  }

  Event do_broadcast(Tensor x, int root) override {
    exchange({x, x, {}}, "broadcast", [&] {
      expect_same(x, offer(root).in);
      if (rank() != root) copy(offer(root).in, x);
    });
    return {};
  }

  Event do_send(Tensor x, int to) override {
    INVARIANT(to >= 0 && to < size() && to != rank(), "send: no rank ", to);
    meeting_->put(rank(), to, x);
    return {};
  }

  Event do_receive(Tensor x, int from) override {
    INVARIANT(from >= 0 && from < size() && from != rank(), "receive: no rank ", from);
    meeting_->take(from, rank(), x);
    return {};
  }

  void do_barrier() override { meeting_->meet(); }

  std::unique_ptr<ProcessGroup> split(const Color& color, const std::string& name) override {
    const int own = color(rank());
    int members = 0, before = 0;
    for (int r = 0; r < size(); ++r) {
      if (color(r) != own) continue;
      ++members;
      before += r < rank();
    }
    auto part = meeting_->part(own, members);
    meeting_->meet();
    meeting_->forget_parts();
    // Nobody asks for the next before all have forgotten these.
    meeting_->meet();
    return std::make_unique<ThreadGroup>(before, members, name, part);
  }

  std::unique_ptr<NodeMemory> share(int64_t bytes) override {
    const int64_t lines = (bytes + 63) / 64;
    auto memory = meeting_->memory(lines * size());
    meeting_->meet();
    meeting_->forget_memory();
    // Nobody asks for the next before all have forgotten this.
    meeting_->meet();
    return std::make_unique<ThreadMemory>(size(), lines, std::move(memory));
  }

 private:
  const Offer& offer(int r) const { return meeting_->offers[static_cast<size_t>(r)]; }

  /// A part of a flat view.
  static Tensor slice(Tensor t, int64_t begin, int64_t end) { return t.reshaped({t.count()}).rows(begin, end - begin); }
  static void copy(Tensor from, Tensor to) {
    if (from.bytes() > 0) std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
  }
  static void expect_same(Tensor a, Tensor b) {
    INVARIANT(a.count() == b.count() && a.dtype == b.dtype, "ranks offer ", a.count(), " ", dtype_name(a.dtype),
              " and ", b.count(), " ", dtype_name(b.dtype));
  }

  template <class Work>
  void exchange(const Offer& own, const char* operation, const Work& work) {
    meeting_->offers[static_cast<size_t>(rank())] = own;
    meeting_->meet(true);
    try {
      work();
      meeting_->done_using();
    } catch (const Error& error) {
      meeting_->done_using();
      meeting_->abandon();
      meeting_->outlast_users();
      throw Error(concat(operation, " in group ", name(), ": ", error.what()), error.file(), error.line(),
                  error.fault());
    }
    meeting_->meet();
  }

  std::shared_ptr<Meeting> meeting_;
};

std::unique_ptr<ThreadGroup> make_rank(int rank, int size, const std::shared_ptr<Meeting>& meeting) {
  return std::make_unique<ThreadGroup>(rank, size, "world", meeting);
}

}  // namespace

std::vector<std::unique_ptr<ProcessGroup>> make_thread_groups(int size) {
  const auto meeting = std::make_shared<Meeting>(size);
  std::vector<std::unique_ptr<ProcessGroup>> groups;
  for (int rank = 0; rank < size; ++rank) groups.push_back(make_rank(rank, size, meeting));
  return groups;
}

namespace {

bool tells_nothing(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const AgreedError& error) {
    return !*error.what();
  } catch (...) {
    return false;
  }
}

}  // namespace

void run_ranks(int size, const std::function<void(ProcessGroup&)>& body) {
  const auto meeting = std::make_shared<Meeting>(size);
  std::mutex mutex;
  std::vector<std::exception_ptr> failures;  // in the order they came; looked at and released by this thread alone
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < size; ++rank) {
    ranks.emplace_back([&, rank] {
      try {
        body(*make_rank(rank, size, meeting));
      } catch (...) {
        std::lock_guard lock(mutex);
        failures.push_back(std::current_exception());
        meeting->abandon();
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  if (failures.empty()) return;
  // The first to fail is the cause; the others fail because it has left. What all agreed on one of them tells.
  const auto cause = std::find_if_not(failures.begin(), failures.end(), tells_nothing);
  std::rethrow_exception(cause != failures.end() ? *cause : failures.front());
}

}  // namespace sluice
