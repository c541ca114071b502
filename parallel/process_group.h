#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/stream.h"
#include "parallel/row_runs.h"

namespace sluice {

/// Order in which the terms of a floating-point sum are added.
enum class SumOrder {
  kOrdered,  ///< rank 0 + rank 1 + ...: the same bits on every rank, machine and message size
  kNative,   ///< whatever the library does; repeatable on the same nodes only
};

enum class ReduceOp {
  kSum,
  kMax,  ///< NaN if any term is
};

/// Where a call stands in the source.
using Site = std::source_location;

class ProcessGroup;

/// Memory that the ranks of a group share where they run on one node: a part for each of them, zero at first.
class NodeMemory {
 public:
  virtual ~NodeMemory() = default;

  /// The ranks of the group on this node, ascending; and the part of each, at a cache line's beginning.
  const std::vector<int>& ranks() const { return ranks_; }
  void* part(size_t index) const { return parts_[index]; }

 protected:
  std::vector<int> ranks_;
  std::vector<void*> parts_;
};

/// One collective call of a rank, as those see it who watch: the schedule's fingerprint, the watchdog, accounts, tests.
struct GroupCall {
  const char* operation;
  ProcessGroup& group;
  Tensor in, out;  ///< the same for operations in place
  Site site;
  int64_t number;  ///< 1 for this rank's first call in the group
  /// What this rank has to send to others, whatever way it goes: of N bytes and n ranks 2 (n-1)/n N for all_reduce,
  /// (n-1)/n N for reduce_scatter and (n-1) N for all_gather; the rows of others for all_to_all.
  int64_t bytes_sent = 0;
};

class GroupObserver {
 public:
  virtual ~GroupObserver() = default;
  virtual void before(const GroupCall& call) = 0;
  /// The call has returned; what it started may be under way.
  virtual void after(const GroupCall& call) = 0;
  /// The rank begins to wait for what an earlier call has started; not for calls that were over when they returned.
  virtual void before_wait(const GroupCall&) {}
  virtual void after_wait(const GroupCall&) {}
};

/// A rank of a group sends this one another number of bytes than it expects.
class CountMismatch : public Error {
 public:
  CountMismatch(const std::string& group, int from, int64_t sent, int to, int64_t expected)
      : Error(concat("group ", group, ": its rank ", from, " sends ", sent, " bytes where its rank ", to, " expects ",
                     expected),
              __FILE__, __LINE__, Fault::kHang),
        group_(group),
        from_(from) {}
  const std::string& group() const { return group_; }
  int from() const { return from_; }  ///< rank of the group

 private:
  std::string group_;
  int from_;
};

/// Ranks that communicate. Every member calls the same operations in the same order with matching counts. Counts are
/// elements (int64, no limit at 2^31). Buffers and runs stay valid and untouched until the returned Event is waited
/// for, or gone; nobody sees the wait of one that goes. A group of one is the identity. Throws Error when the transport
/// fails or counts do not match a buffer.
class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }

  /// x [n] f32 | f64 | i32 | i64 becomes the sum or maximum over ranks, in place. Integers are exact.
  Event all_reduce(Tensor x, ReduceOp op = ReduceOp::kSum, SumOrder order = SumOrder::kOrdered,
                   Site site = Site::current());
  /// in [size * n] -> out [n]: the sum over ranks of block `rank`. out may be that block of `in`.
  Event reduce_scatter(Tensor in, Tensor out, SumOrder order = SumOrder::kOrdered, Site site = Site::current());
  /// in [n] -> out [size * n] in rank order. in may be block `rank` of out.
  Event all_gather(Tensor in, Tensor out, Site site = Site::current());
  /// Rows of `in` go to the ranks of `send`, rows of `out` come from those of `receive`. What a pair of ranks exchanges
  /// is one stream, in the order of the runs on either side; both must list as many rows. A rank may be listed often or
  /// never. `in` and `out` do not overlap.
  Event all_to_all(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive,
                   Site site = Site::current());
  Event broadcast(Tensor x, int root, Site site = Site::current());
  Event send(Tensor x, int to, Site site = Site::current());
  Event receive(Tensor x, int from, Site site = Site::current());
  void barrier(Site site = Site::current());
  /// Color of a rank, the same function on all of them.
  using Color = std::function<int(int rank)>;
  /// The ranks of this one's color, in their order. Every member calls it. Nobody observes the new group yet.
  virtual std::unique_ptr<ProcessGroup> split(const Color& color, const std::string& name) = 0;
  /// A part of `bytes` for every rank. Every member calls it, and gives the memory back together with the others.
  virtual std::unique_ptr<NodeMemory> share(int64_t bytes) = 0;

  /// Shows every call of this rank to `observer`, until another or none takes its place.
  void observe(GroupObserver* observer) { observer_ = observer; }

 protected:
  ProcessGroup(int rank, int size, std::string name) : rank_(rank), size_(size), name_(std::move(name)) {}

  // In groups of two and more; sizes have been checked.
  virtual Event do_all_reduce(Tensor x, ReduceOp op, SumOrder order) = 0;
  virtual Event do_reduce_scatter(Tensor in, Tensor out, SumOrder order) = 0;
  virtual Event do_all_gather(Tensor in, Tensor out) = 0;
  virtual Event do_all_to_all(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive) = 0;
  virtual Event do_broadcast(Tensor x, int root) = 0;
  virtual Event do_send(Tensor x, int to) = 0;
  virtual Event do_receive(Tensor x, int from) = 0;
  virtual void do_barrier() = 0;

 private:
  template <class Body>
  Event observed(const char* operation, Tensor in, Tensor out, const Site& site, int64_t bytes_sent, const Body& body);

  int rank_;
  int size_;
  std::string name_;
  int64_t calls_ = 0;
  GroupObserver* observer_ = nullptr;
};

}  // namespace sluice
