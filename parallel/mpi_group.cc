#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "parallel/combine.h"
#include "parallel/mpi_call.h"
#include "parallel/mpi_channels.h"
#include "parallel/mpi_exchange.h"
#include "parallel/mpi_node_memory.h"
#include "parallel/mpi_progress.h"
#include "parallel/mpi_session.h"
#include "parallel/mpi_window.h"

namespace sluice {
namespace {

// What ranks on several nodes reduce at a time.
constexpr int64_t kSliceBytes = int64_t{2} << 20;
// What is given to MPI's own sums at a time: their counts are ints.
constexpr int64_t kNativeBytes = int64_t{1} << 30;

char* bytes_of(Tensor t) { return static_cast<char*>(t.data); }

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return MPI_FLOAT;
    case DType::kF64:
      return MPI_DOUBLE;
    case DType::kI32:
      return MPI_INT32_T;
    case DType::kI64:
      return MPI_INT64_T;
    default:
      INVARIANT(false, "cannot reduce ", dtype_name(dtype));
  }
  return MPI_BYTE;
}

/// A group over an MPI communicator. Reductions and gathers within a node go through its memory; between nodes all
/// is made of messages whose sizes are checked, since MPI's own collectives do anything at all when counts differ
/// (SumOrder::kNative asks for them all the same). Those go on while the rank computes.
class MpiGroup : public ProcessGroup {
 public:
  MpiGroup(MPI_Comm comm, int rank, int size, const std::string& name, MpiTransport transport,
           std::shared_ptr<MpiProgress> progress)
      : ProcessGroup(rank, size, name),
        comm_(comm),
        transport_(transport),
        progress_(std::move(progress)),
        window_(comm, rank, size, transport) {}
  ~MpiGroup() override {
    // Freeing is collective, and a rank that fails alone is on its way to fatal(): nobody else would come.
    if (std::uncaught_exceptions() > exceptions_at_start_) return;
    progress_->settle();
    progress_->forget(this);
    window_.close();
    channels_.reset();
    if (comm_ != MPI_COMM_WORLD) MPI_Comm_free(&comm_);
  }

  Event do_all_reduce(Tensor x, ReduceOp op, SumOrder order) override {
    if (x.count() == 0) return {};
    if (order == SumOrder::kNative) return start(native_all_reduce(x, op));
    if (!window_.open()) return start(all_reduce_by_messages(x, op));
    window_.all_reduce(x.dtype, op, x.count(), bytes_of(x));
    return {};
  }

  Event do_reduce_scatter(Tensor in, Tensor out, SumOrder) override {
    if (!window_.open()) return start(reduce_scatter_by_messages(in, out));
    window_.reduce_scatter(in.dtype, out.count(), bytes_of(in), bytes_of(out));
    return {};
  }

  Event do_all_gather(Tensor in, Tensor out) override {
    if (!window_.open()) return start(all_gather_by_messages(in, out));
    window_.all_gather(in.bytes(), bytes_of(in), bytes_of(out));
    return {};
  }

  Event do_all_to_all(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive) override {
    if (!window_.open()) return start(all_to_all_by_messages(in, send, out, receive));
    // Few groups exchange rows, and channels take memory for every pair: made by the first call, which all make.
    if (!channels_) {
      progress_->settle();
      channels_ = std::make_unique<MpiChannels>(comm_, rank(), size(), transport_, window_.peers());
    }
    channels_->all_to_all(in, send, out, receive, name());
    return {};
  }

  Event do_broadcast(Tensor x, int root) override { return start(broadcast_by_messages(x, root)); }
  Event do_send(Tensor x, int to) override { return start(exchange_once({{to, bytes_of(x), x.bytes()}}, {})); }
  Event do_receive(Tensor x, int from) override { return start(exchange_once({}, {{from, bytes_of(x), x.bytes()}})); }
  void do_barrier() override { start(barrier_of_mpi()).wait(); }

  std::unique_ptr<ProcessGroup> split(const Color& color, const std::string& name) override {
    progress_->settle();
    MPI_Comm part = MPI_COMM_NULL;
    int part_rank = 0, part_size = 0;
    MPI_CALL(MPI_Comm_split(comm_, color(rank()), rank(), &part));
    MPI_CALL(MPI_Comm_rank(part, &part_rank));
    MPI_CALL(MPI_Comm_size(part, &part_size));
    return std::make_unique<MpiGroup>(part, part_rank, part_size, name, transport_, progress_);
  }

  std::unique_ptr<NodeMemory> share(int64_t bytes) override {
    progress_->settle();
    return make_mpi_node_memory(comm_, rank(), bytes, transport_);
  }

 private:
  Event start(MpiTask task) { return progress_->start(this, std::move(task)); }

  // Tasks. Their arguments are copies, and live as long as they do.

  MpiTask exchange_once(std::vector<Message> sends, std::vector<Message> receives) {
    MpiExchange exchange(comm_, rank(), name(), sends, receives);
    co_await exchange;
  }

  MpiTask barrier_of_mpi() {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_CALL(MPI_Ibarrier(comm_, &request));
    MpiExchange barrier(request);
    co_await barrier;
  }

  MpiTask native_all_reduce(Tensor x, ReduceOp op) {
    const int64_t element = dtype_bytes(x.dtype), at_a_time = kNativeBytes / element;
    for (int64_t begin = 0; begin < x.count(); begin += at_a_time) {
      MPI_Request request = MPI_REQUEST_NULL;
      MPI_CALL(MPI_Iallreduce(MPI_IN_PLACE, bytes_of(x) + begin * element,
                              static_cast<int>(std::min(at_a_time, x.count() - begin)), mpi_type(x.dtype),
                              op == ReduceOp::kSum ? MPI_SUM : MPI_MAX, comm_, &request));
      MpiExchange all_reduce(request);
      co_await all_reduce;
    }
  }

  MpiTask all_reduce_by_messages(Tensor x, ReduceOp op) {
    const int64_t element = dtype_bytes(x.dtype), at_a_time = kSliceBytes / element;
    for (int64_t at = 0; at < x.count(); at += at_a_time) {
      const int64_t n = std::min(at_a_time, x.count() - at);
      std::vector<Message> parts;
      for (int r = 0; r < size(); ++r) {
        const int64_t begin = part_begin(n, r, size()), end = part_begin(n, r + 1, size());
        parts.push_back({r, bytes_of(x) + (at + begin) * element, (end - begin) * element});
      }
      const Message own = parts[own_index()];
      const std::vector<Message> terms = place_for_terms(own);
      MpiExchange reduce(comm_, rank(), name(), others(parts), others(terms));
      co_await reduce;
      combine_terms(x.dtype, op, terms, own.data);
      MpiExchange gather(comm_, rank(), name(), to_others(own), others(parts));
      co_await gather;
    }
  }

  MpiTask reduce_scatter_by_messages(Tensor in, Tensor out) {
    const int64_t element = dtype_bytes(in.dtype), at_a_time = std::max<int64_t>(kSliceBytes / element / size(), 1);
    for (int64_t at = 0; at < out.count(); at += at_a_time) {
      const int64_t n = std::min(at_a_time, out.count() - at);
      std::vector<Message> blocks;
      for (int r = 0; r < size(); ++r) {
        blocks.push_back({r, bytes_of(in) + (r * out.count() + at) * element, n * element});
      }
      const std::vector<Message> terms = place_for_terms(blocks[own_index()]);
      MpiExchange reduce(comm_, rank(), name(), others(blocks), others(terms));
      co_await reduce;
      combine_terms(in.dtype, ReduceOp::kSum, terms, bytes_of(out) + at * element);
    }
  }

  MpiTask all_gather_by_messages(Tensor in, Tensor out) {
    std::vector<Message> blocks;
    for (int r = 0; r < size(); ++r) blocks.push_back({r, bytes_of(out) + r * in.bytes(), in.bytes()});
    const Message own = blocks[own_index()];
    if (own.data != in.data && own.bytes > 0) std::memmove(own.data, in.data, static_cast<size_t>(own.bytes));
    MpiExchange gather(comm_, rank(), name(), to_others(own), others(blocks));
    co_await gather;
  }

  MpiTask all_to_all_by_messages(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive) {
    RowStream own_in(in, send, rank()), own_out(out, receive, rank());
    check_sent(name(), rank(), own_in.left(), rank(), own_out.left());
    copy(own_in, own_out);
    std::vector<std::vector<char>> packed;  // of what does not lie together
    const auto together = [&](RowStream& stream) -> char* {
      if (stream.together() < stream.left()) return packed.emplace_back(static_cast<size_t>(stream.left())).data();
      return stream.left() ? stream.next() : nullptr;
    };
    std::vector<Message> sends, receives;
    std::vector<std::pair<RowStream, const char*>> arriving;
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      RowStream from(in, send, r), to(out, receive, r);
      sends.push_back({r, together(from), from.left()});
      receives.push_back({r, together(to), to.left()});
      if (from.together() < from.left()) take(from, sends.back().data, from.left());
      if (to.together() < to.left()) arriving.emplace_back(to, receives.back().data);
    }
    MpiExchange rows(comm_, rank(), name(), sends, receives);
    co_await rows;
    for (auto& [stream, bytes] : arriving) put(bytes, stream, stream.left());
  }

  /// A binomial tree: in round k those that have it send it 2^k ranks further.
  MpiTask broadcast_by_messages(Tensor x, int root) {
    const int place = (rank() - root + size()) % size();
    for (int step = 1; step < size(); step *= 2) {
      const bool sends = place < step && place + step < size(), receives = place >= step && place < 2 * step;
      if (!sends && !receives) continue;
      const int other = (sends ? place + step : place - step) + root;
      const std::vector<Message> message = {{other % size(), bytes_of(x), x.bytes()}}, none;
      MpiExchange exchange(comm_, rank(), name(), sends ? message : none, receives ? message : none);
      co_await exchange;
    }
  }

  size_t own_index() const { return static_cast<size_t>(rank()); }

  /// `all` has a message of every rank; those of this one left out.
  std::vector<Message> others(std::vector<Message> all) const {
    all.erase(all.begin() + rank());
    return all;
  }
  /// The same to every other rank.
  std::vector<Message> to_others(const Message& message) const {
    std::vector<Message> all;
    for (int r = 0; r < size(); ++r) all.push_back({r, message.data, message.bytes});
    return others(std::move(all));
  }

  /// Where the terms of a sum come to lie, this rank's where it is. Tasks of a group take turns, and so in its use.
  std::vector<Message> place_for_terms(const Message& own) {
    terms_.resize(static_cast<size_t>(own.bytes) * static_cast<size_t>(size()));
    std::vector<Message> terms;
    for (int r = 0; r < size(); ++r) {
      terms.push_back({r, r == rank() ? own.data : terms_.data() + r * own.bytes, own.bytes});
    }
    return terms;
  }
  /// In rank order; `out` may be one of them.
  static void combine_terms(DType dtype, ReduceOp op, const std::vector<Message>& terms, char* out) {
    std::vector<const void*> data;
    for (const Message& term : terms) data.push_back(term.data);
    combine(dtype, op, terms.front().bytes / dtype_bytes(dtype), data, out);
  }

  const int exceptions_at_start_ = std::uncaught_exceptions();
  MPI_Comm comm_;
  MpiTransport transport_;
  std::shared_ptr<MpiProgress> progress_;
  MpiWindow window_;
  std::unique_ptr<MpiChannels> channels_;
  std::vector<char> terms_;
};

}  // namespace

std::unique_ptr<ProcessGroup> make_mpi_world(MpiTransport transport) {
  int rank = 0, size = 1;
  MPI_CALL(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
  MPI_CALL(MPI_Comm_size(MPI_COMM_WORLD, &size));
  return std::make_unique<MpiGroup>(MPI_COMM_WORLD, rank, size, "world", transport,
                                    std::make_shared<MpiProgress>(ranks_share_cores()));
}

}  // namespace sluice
