#include "parallel/process_group.h"

#include <cstring>

namespace sluice {
namespace {

/// What a collective does in a group of one.
Event keep(Tensor in, Tensor out) {
  const bool moves = in.data != out.data && in.bytes() > 0 && in.device != Device::kNone;
  if (moves) std::memmove(out.data, in.data, static_cast<size_t>(in.bytes()));
  return {};
}

Event keep_rows(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive) {
  const RowStream from(in, send, 0), to(out, receive, 0);
  INVARIANT(from.left() == to.left(), "all_to_all of one rank: ", from.left(), " bytes go, ", to.left(), " come");
  if (in.device != Device::kNone) copy(from, to);
  return {};
}

}  // namespace

template <class Body>
Event ProcessGroup::observed(const char* operation, Tensor in, Tensor out, const Site& site, int64_t bytes_sent,
                             const Body& body) {
  const GroupCall call{operation, *this, in, out, site, ++calls_, bytes_sent};
  if (observer_) observer_->before(call);
  Event event = body();
  if (observer_) observer_->after(call);
  if (!observer_ || event.done()) return event;
  return Event([this, call, event]() mutable {
    if (observer_) observer_->before_wait(call);
    event.wait();
    if (observer_) observer_->after_wait(call);
  });
}

Event ProcessGroup::all_reduce(Tensor x, ReduceOp op, SumOrder order, Site site) {
  return observed("all_reduce", x, x, site, 2 * x.bytes() * (size() - 1) / size(),
                  [&] { return size() == 1 ? Event() : do_all_reduce(x, op, order); });
}

Event ProcessGroup::reduce_scatter(Tensor in, Tensor out, SumOrder order, Site site) {
  INVARIANT(in.count() == out.count() * size() && in.dtype == out.dtype, "reduce_scatter in group ", name(),
            ": in has ", in.count(), " elements, out ", out.count());
  return observed("reduce_scatter", in, out, site, out.bytes() * (size() - 1),
                  [&] { return size() == 1 ? keep(in, out) : do_reduce_scatter(in, out, order); });
}

Event ProcessGroup::all_gather(Tensor in, Tensor out, Site site) {
  INVARIANT(out.count() == in.count() * size() && in.dtype == out.dtype, "all_gather in group ", name(), ": in has ",
            in.count(), " elements, out ", out.count());
  return observed("all_gather", in, out, site, in.bytes() * (size() - 1),
                  [&] { return size() == 1 ? keep(in, out) : do_all_gather(in, out); });
}

Event ProcessGroup::all_to_all(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive,
                               Site site) {
  int64_t rows = 0;
  for (const RowRun& run : send) rows += run.rank == rank() ? 0 : run.rows;
  const int64_t row_bytes = in.dim(0) > 0 ? in.bytes() / in.dim(0) : 0;
  return observed("all_to_all", in, out, site, rows * row_bytes, [&] {
    return size() == 1 ? keep_rows(in, send, out, receive) : do_all_to_all(in, send, out, receive);
  });
}

Event ProcessGroup::broadcast(Tensor x, int root, Site site) {
  return observed("broadcast", x, x, site, rank() == root ? x.bytes() * (size() - 1) : 0,
                  [&] { return size() == 1 ? Event() : do_broadcast(x, root); });
}

Event ProcessGroup::send(Tensor x, int to, Site site) {
  return observed("send", x, {}, site, x.bytes(), [&] { return do_send(x, to); });
}

Event ProcessGroup::receive(Tensor x, int from, Site site) {
  return observed("receive", {}, x, site, 0, [&] { return do_receive(x, from); });
}

void ProcessGroup::barrier(Site site) {
  observed("barrier", {}, {}, site, 0, [&] {
    do_barrier();
    return Event();
  }).wait();
}

}  // namespace sluice
