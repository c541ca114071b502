#include <algorithm>
#include <cstring>
#include <exception>
#include <vector>

#include "parallel/combine.h"
#include "parallel/mpi_call.h"
#include "parallel/mpi_node_memory.h"
#include "parallel/mpi_session.h"
#include "parallel/mpi_window.h"

namespace sluice {
namespace {

// Counts of MPI are ints; messages above this travel in pieces.
constexpr int64_t kPieceBytes = int64_t{1} << 30;
// What ranks on several nodes reduce at a time.
constexpr int64_t kSliceBytes = int64_t{2} << 20;

/// Calls body(byte offset, bytes) for pieces of a message.
template <class Body>
void for_each_piece(int64_t bytes, const Body& body) {
  for (int64_t at = 0; at < bytes; at += kPieceBytes) body(at, static_cast<int>(std::min(kPieceBytes, bytes - at)));
}

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

/// A group over an MPI communicator. Reductions and gathers within a node go through shared memory; ordered sums across
/// nodes exchange slices, so that each is summed in rank order by one rank.
class MpiGroup : public ProcessGroup {
 public:
  MpiGroup(MPI_Comm comm, int rank, int size, const std::string& name, MpiTransport transport)
      : ProcessGroup(rank, size, name), comm_(comm), transport_(transport), window_(comm, rank, size, transport) {}
  ~MpiGroup() override {
    // Freeing is collective, and a rank that fails alone is on its way to fatal(): nobody else would come.
    if (std::uncaught_exceptions() > exceptions_at_start_) return;
    window_.close();
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
      exchange_slices(x.dtype, op, std::min(at_a_time, x.count() - begin), bytes_of(x) + begin * element);
    }
    return {};
  }

  Event do_reduce_scatter(Tensor in, Tensor out, SumOrder order) override {
    if (window_.open() && order == SumOrder::kOrdered) {
      window_.reduce_scatter(in.dtype, out.count(), bytes_of(in), bytes_of(out));
      return {};
    }
    buffer_.resize(static_cast<size_t>(in.bytes()));
    std::memcpy(buffer_.data(), in.data, buffer_.size());
    do_all_reduce({buffer_.data(), in.dtype, Device::kCpu, {in.count()}}, ReduceOp::kSum, order);
    std::memcpy(out.data, buffer_.data() + rank() * out.bytes(), static_cast<size_t>(out.bytes()));
    return {};
  }

  Event do_all_gather(Tensor in, Tensor out) override {
    if (window_.open()) {
      window_.all_gather(in.bytes(), bytes_of(in), bytes_of(out));
      return {};
    }
    char* mine = bytes_of(out) + rank() * in.bytes();
    if (mine != in.data) std::memmove(mine, in.data, static_cast<size_t>(in.bytes()));
    for (int r = 0; r < size(); ++r) {
      do_broadcast({bytes_of(out) + r * in.bytes(), in.dtype, Device::kCpu, {in.count()}}, r);
    }
    return {};
  }

  Event do_all_to_all(Tensor in, std::span<const int64_t> send_rows, Tensor out,
                      std::span<const int64_t> receive_rows) override {
    const int64_t row_bytes = out.dim(0) ? out.bytes() / out.dim(0) : in.dim(0) ? in.bytes() / in.dim(0) : 0;
    std::vector<MPI_Request> requests;
    const auto post = [&](std::span<const int64_t> rows, Tensor t, bool sends) {
      int64_t at = 0;
      for (int r = 0; r < size(); ++r) {
        const int64_t bytes = rows[static_cast<size_t>(r)] * row_bytes;
        for_each_piece(bytes, [&](int64_t offset, int piece) {
          requests.emplace_back();
          char* data = bytes_of(t) + at + offset;
          MPI_CALL(sends ? MPI_Isend(data, piece, MPI_BYTE, r, kTag, comm_, &requests.back())
                         : MPI_Irecv(data, piece, MPI_BYTE, r, kTag, comm_, &requests.back()));
        });
        at += bytes;
      }
    };
    post(receive_rows, out, false);
    post(send_rows, in, true);
    MPI_CALL(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE));
    return {};
  }

  Event do_broadcast(Tensor x, int root) override {
    for_each_piece(x.bytes(),
                   [&](int64_t at, int bytes) { MPI_CALL(MPI_Bcast(bytes_of(x) + at, bytes, MPI_BYTE, root, comm_)); });
    return {};
  }

  Event do_send(Tensor x, int to) override {
    for_each_piece(x.bytes(), [&](int64_t at, int bytes) {
      MPI_CALL(MPI_Send(bytes_of(x) + at, bytes, MPI_BYTE, to, kTag, comm_));
    });
    return {};
  }

  Event do_receive(Tensor x, int from) override {
    for_each_piece(x.bytes(), [&](int64_t at, int bytes) {
      MPI_Status status;
      int got = 0;
      MPI_CALL(MPI_Recv(bytes_of(x) + at, bytes, MPI_BYTE, from, kTag, comm_, &status));
      MPI_CALL(MPI_Get_count(&status, MPI_BYTE, &got));
      INVARIANT(got == bytes, "receive in group ", name(), ": expected ", bytes, " bytes from rank ", from, ", got ",
                got);
    });
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
    for_each_piece(x.bytes(), [&](int64_t at, int bytes) {
      MPI_CALL(MPI_Allreduce(MPI_IN_PLACE, bytes_of(x) + at, static_cast<int>(bytes / element), mpi_type(x.dtype),
                             op == ReduceOp::kSum ? MPI_SUM : MPI_MAX, comm_));
    });
    return {};
  }

  /// An ordered all_reduce of at most kSliceBytes, across nodes: slice r of every rank goes to
  /// rank r, which adds in rank order; the sums come back.
  void exchange_slices(DType dtype, ReduceOp op, int64_t n, char* data) {
    const int64_t element = dtype_bytes(dtype);
    std::vector<int> bytes(static_cast<size_t>(size())), at(static_cast<size_t>(size()));
    for (int r = 0; r < size(); ++r) {
      at[static_cast<size_t>(r)] = static_cast<int>(part_begin(n, r, size()) * element);
      bytes[static_cast<size_t>(r)] =
          static_cast<int>((part_begin(n, r + 1, size()) - part_begin(n, r, size())) * element);
    }
    const size_t me = static_cast<size_t>(rank());
    const int own_bytes = bytes[me];
    slices_.resize(static_cast<size_t>(own_bytes) * static_cast<size_t>(size()));
    std::vector<int> same(static_cast<size_t>(size()), own_bytes), slots(static_cast<size_t>(size()));
    for (int r = 0; r < size(); ++r) slots[static_cast<size_t>(r)] = r * own_bytes;
    MPI_CALL(MPI_Alltoallv(data, bytes.data(), at.data(), MPI_BYTE, slices_.data(), same.data(), slots.data(), MPI_BYTE,
                           comm_));
    std::vector<const void*> terms;
    for (int r = 0; r < size(); ++r) terms.push_back(slices_.data() + r * own_bytes);
    combine(dtype, op, own_bytes / element, terms, slices_.data());
    MPI_CALL(MPI_Allgatherv(slices_.data(), own_bytes, MPI_BYTE, data, bytes.data(), at.data(), MPI_BYTE, comm_));
  }

  const int exceptions_at_start_ = std::uncaught_exceptions();
  MPI_Comm comm_;
  MpiTransport transport_;
  MpiWindow window_;
  std::vector<char> slices_, buffer_;
};

}  // namespace

std::unique_ptr<ProcessGroup> make_mpi_world(MpiTransport transport) {
  int rank = 0, size = 1;
  MPI_CALL(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
  MPI_CALL(MPI_Comm_size(MPI_COMM_WORLD, &size));
  return std::make_unique<MpiGroup>(MPI_COMM_WORLD, rank, size, "world", transport);
}

}  // namespace sluice
