#include <algorithm>
#include <cstring>
#include <exception>
#include <vector>

#include "parallel/combine.h"
#include "parallel/mpi_call.h"
#include "parallel/mpi_channels.h"
#include "parallel/mpi_node_memory.h"
#include "parallel/mpi_session.h"
#include "parallel/mpi_window.h"

namespace sluice {
namespace {

// Counts of MPI are ints; messages above this travel in pieces.
constexpr int64_t kPieceBytes = int64_t{1} << 30;
// What ranks on several nodes reduce at a time.
constexpr int64_t kSliceBytes = int64_t{2} << 20;

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

/// Bytes to or from a rank of the group.
struct Message {
  int rank;
  char* data;
  int64_t bytes;
};

/// A group over an MPI communicator. Reductions and gathers within a node go through shared memory; between nodes all
/// is made of messages whose sizes are checked, since MPI's own collectives do anything at all when counts differ.
class MpiGroup : public ProcessGroup {
 public:
  MpiGroup(MPI_Comm comm, int rank, int size, const std::string& name, MpiTransport transport)
      : ProcessGroup(rank, size, name), comm_(comm), transport_(transport), window_(comm, rank, size, transport) {}
  ~MpiGroup() override {
    // Freeing is collective, and a rank that fails alone is on its way to fatal(): nobody else would come.
    if (std::uncaught_exceptions() > exceptions_at_start_) return;
    window_.close();
    channels_.reset();
    if (comm_ != MPI_COMM_WORLD) MPI_Comm_free(&comm_);
  }

  Event do_all_reduce(Tensor x, ReduceOp op, SumOrder order) override {
    if (x.count() == 0) return {};
    if (order == SumOrder::kNative) return native_all_reduce(x, op);
    if (window_.open()) {
      window_.all_reduce(x.dtype, op, x.count(), bytes_of(x));
      return {};
    }
    const int64_t element = dtype_bytes(x.dtype), at_a_time = kSliceBytes / element;
    for (int64_t begin = 0; begin < x.count(); begin += at_a_time) {
      all_reduce_slices(x.dtype, op, std::min(at_a_time, x.count() - begin), bytes_of(x) + begin * element);
    }
    return {};
  }

  Event do_reduce_scatter(Tensor in, Tensor out, SumOrder) override {
    if (window_.open()) {
      window_.reduce_scatter(in.dtype, out.count(), bytes_of(in), bytes_of(out));
      return {};
    }
    const int64_t element = dtype_bytes(in.dtype), at_a_time = std::max<int64_t>(kSliceBytes / element / size(), 1);
    for (int64_t begin = 0; begin < out.count(); begin += at_a_time) {
      const int64_t n = std::min(at_a_time, out.count() - begin);
      const auto block = [&](int r) { return Block{bytes_of(in) + (r * out.count() + begin) * element, n * element}; };
      reduce_blocks(in.dtype, ReduceOp::kSum, block, bytes_of(out) + begin * element);
    }
    return {};
  }

  Event do_all_gather(Tensor in, Tensor out) override {
    if (window_.open()) {
      window_.all_gather(in.bytes(), bytes_of(in), bytes_of(out));
      return {};
    }
    char* mine = bytes_of(out) + rank() * in.bytes();
    if (mine != in.data) std::memmove(mine, in.data, static_cast<size_t>(in.bytes()));
    gather_blocks([&](int r) { return Block{bytes_of(out) + r * in.bytes(), in.bytes()}; });
    return {};
  }

  Event do_all_to_all(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive) override {
    if (window_.open()) {
      // Few groups exchange rows, and channels take memory for every pair: made by the first call, which all make.
      if (!channels_) channels_ = std::make_unique<MpiChannels>(comm_, rank(), size(), transport_);
      channels_->all_to_all(in, send, out, receive, name());
      return {};
    }
    const RowStream own_in(in, send, rank()), own_out(out, receive, rank());
    check_sent(name(), rank(), own_in.left(), rank(), own_out.left());
    copy(own_in, own_out);
    std::vector<Message> sends, receives;
    std::vector<std::vector<char>> packed;  // of what does not lie together
    std::vector<std::pair<RowStream, const char*>> arriving;
    packed.reserve(2 * static_cast<size_t>(size()));
    const auto memory = [&](RowStream& stream, bool sent) {
      if (stream.together() == stream.left()) return stream.left() ? stream.next() : nullptr;
      char* bytes = packed.emplace_back(static_cast<size_t>(stream.left())).data();
      if (sent) {
        take(stream, bytes, stream.left());
      } else {
        arriving.emplace_back(stream, bytes);
      }
      return bytes;
    };
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      RowStream from(in, send, r), to(out, receive, r);
      const int64_t sent = from.left(), expected = to.left();
      sends.push_back({r, memory(from, true), sent});
      receives.push_back({r, memory(to, false), expected});
    }
    exchange(sends, receives);
    for (auto& [stream, bytes] : arriving) put(bytes, stream, stream.left());
    return {};
  }

  Event do_broadcast(Tensor x, int root) override {
    // A binomial tree: in round k those that have it send it 2^k ranks further.
    const int place = (rank() - root + size()) % size();
    const auto message = [&](int to) { return Message{(to + root) % size(), bytes_of(x), x.bytes()}; };
    for (int step = 1; step < size(); step *= 2) {
      if (place < step && place + step < size()) exchange({message(place + step)}, {});
      if (place >= step && place < 2 * step) exchange({}, {message(place - step)});
    }
    return {};
  }

  Event do_send(Tensor x, int to) override {
    exchange({{to, bytes_of(x), x.bytes()}}, {});
    return {};
  }

  Event do_receive(Tensor x, int from) override {
    exchange({}, {{from, bytes_of(x), x.bytes()}});
    return {};
  }

  void do_barrier() override { MPI_CALL(MPI_Barrier(comm_)); }

  std::unique_ptr<ProcessGroup> split(int color, int key, const std::string& name) override {
    MPI_Comm part = MPI_COMM_NULL;
    int part_rank = 0, part_size = 0;
    MPI_CALL(MPI_Comm_split(comm_, color, key, &part));
    MPI_CALL(MPI_Comm_rank(part, &part_rank));
    MPI_CALL(MPI_Comm_size(part, &part_size));
    return std::make_unique<MpiGroup>(part, part_rank, part_size, name, transport_);
  }

  std::unique_ptr<NodeMemory> share(int64_t bytes) override {
    return make_mpi_node_memory(comm_, rank(), bytes, transport_);
  }

 private:
  static constexpr int kTag = 1;

  Event native_all_reduce(Tensor x, ReduceOp op) {
    const int64_t element = dtype_bytes(x.dtype);
    for (int64_t at = 0; at < x.bytes(); at += kPieceBytes) {
      const int64_t bytes = std::min(kPieceBytes, x.bytes() - at);
      MPI_CALL(MPI_Allreduce(MPI_IN_PLACE, bytes_of(x) + at, static_cast<int>(bytes / element), mpi_type(x.dtype),
                             op == ReduceOp::kSum ? MPI_SUM : MPI_MAX, comm_));
    }
    return {};
  }

  struct Block {
    char* data;
    int64_t bytes;
  };

  /// Calls body(data, bytes) for the pieces of a message: one at least, so that one side that has nothing is noticed.
  template <class Body>
  static void for_each_piece(const Message& message, const Body& body) {
    for (int64_t at = 0; at == 0 || at < message.bytes; at += kPieceBytes) {
      body(message.data + at, static_cast<int>(std::min(kPieceBytes, message.bytes - at)));
    }
  }

  /// Sends and receives all at once.
  void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives) {
    std::vector<MPI_Request> requests;
    for (const Message& message : sends) {
      for_each_piece(message, [&](char* data, int bytes) {
        requests.emplace_back();
        MPI_CALL(MPI_Isend(data, bytes, MPI_BYTE, message.rank, kTag, comm_, &requests.back()));
      });
    }
    for (const Message& message : receives) {
      for_each_piece(message, [&](char* data, int bytes) {
        // Its size is looked at first: what a message that is too long does to a receive differs between transports.
        MPI_Message incoming = MPI_MESSAGE_NULL;
        MPI_Status status;
        int got = 0;
        MPI_CALL(MPI_Mprobe(message.rank, kTag, comm_, &incoming, &status));
        MPI_CALL(MPI_Get_count(&status, MPI_BYTE, &got));
        check_sent(name(), message.rank, got, rank(), bytes);
        requests.emplace_back();
        MPI_CALL(MPI_Imrecv(data, bytes, MPI_BYTE, &incoming, &requests.back()));
      });
    }
    MPI_CALL(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE));
  }

  /// Block r of every rank, as block(r) gives it, goes to rank r, which combines them in rank order into `out`.
  template <class BlockOf>
  void reduce_blocks(DType dtype, ReduceOp op, const BlockOf& block, char* out) {
    const Block own = block(rank());
    slices_.resize(static_cast<size_t>(own.bytes) * static_cast<size_t>(size()));
    std::vector<Message> sends, receives;
    std::vector<const void*> terms;
    for (int r = 0; r < size(); ++r) {
      char* slice = slices_.data() + r * own.bytes;
      terms.push_back(r == rank() ? own.data : slice);
      if (r == rank()) continue;
      sends.push_back({r, block(r).data, block(r).bytes});
      receives.push_back({r, slice, own.bytes});
    }
    exchange(sends, receives);
    combine(dtype, op, own.bytes / dtype_bytes(dtype), terms, out);
  }

  /// Every rank's own block, as block(rank) gives it, to all others.
  template <class BlockOf>
  void gather_blocks(const BlockOf& block) {
    std::vector<Message> sends, receives;
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      sends.push_back({r, block(rank()).data, block(rank()).bytes});
      receives.push_back({r, block(r).data, block(r).bytes});
    }
    exchange(sends, receives);
  }

  /// An ordered all_reduce of at most kSliceBytes.
  void all_reduce_slices(DType dtype, ReduceOp op, int64_t n, char* data) {
    const auto block = [&](int r) {
      const int64_t begin = part_begin(n, r, size()), end = part_begin(n, r + 1, size());
      return Block{data + begin * dtype_bytes(dtype), (end - begin) * dtype_bytes(dtype)};
    };
    reduce_blocks(dtype, op, block, block(rank()).data);
    gather_blocks(block);
  }

  const int exceptions_at_start_ = std::uncaught_exceptions();
  MPI_Comm comm_;
  MpiTransport transport_;
  MpiWindow window_;
  std::unique_ptr<MpiChannels> channels_;
  std::vector<char> slices_;
};

}  // namespace

std::unique_ptr<ProcessGroup> make_mpi_world(MpiTransport transport) {
  int rank = 0, size = 1;
  MPI_CALL(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
  MPI_CALL(MPI_Comm_size(MPI_COMM_WORLD, &size));
  return std::make_unique<MpiGroup>(MPI_COMM_WORLD, rank, size, "world", transport);
}

}  // namespace sluice
