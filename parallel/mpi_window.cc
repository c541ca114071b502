#include "parallel/mpi_window.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "parallel/combine.h"
#include "parallel/mpi_call.h"
#include "parallel/spin_wait.h"

namespace sluice {
namespace {

// Of a rank, in each of two slots: small enough to stay in the second-level cache, large enough that a meeting, about a
// microsecond, is small beside its copies.
constexpr int64_t kPieceBytes = int64_t{256} << 10;
constexpr int64_t kSlots = 2;
bool on_one_node(MPI_Comm comm, int size) {
  MPI_Comm node = MPI_COMM_NULL;
  int node_size = 0;
  MPI_CALL(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
  MPI_CALL(MPI_Comm_size(node, &node_size));
  MPI_CALL(MPI_Comm_free(&node));
  return node_size == size;
}

}  // namespace

MpiWindow::MpiWindow(MPI_Comm comm, int rank, int size, MpiTransport transport)
    : comm_(comm), rank_(rank), size_(size) {
  if (size == 1 || transport == MpiTransport::kMessages || !on_one_node(comm, size)) return;
  crowded_ = ranks_share_cores();
  // Rank 0 owns the whole block, so that its parts lie back to back.
  const int64_t arrival_bytes = static_cast<int64_t>(sizeof(Arrival)) * size;
  MPI_Aint bytes = rank == 0 ? static_cast<MPI_Aint>(arrival_bytes + kSlots * kPieceBytes * size + 64) : 0;
  void* own = nullptr;
  MPI_CALL(MPI_Win_allocate_shared(bytes, 1, MPI_INFO_NULL, comm, &own, &window_));
  int unit = 0;
  char* block = nullptr;
  MPI_CALL(MPI_Win_shared_query(window_, 0, &bytes, &unit, &block));
  // Where the library puts it, in every process at the same distance from a cache line.
  block += (64 - reinterpret_cast<uintptr_t>(block) % 64) % 64;
  arrivals_ = reinterpret_cast<Arrival*>(block);
  base_ = block + arrival_bytes;
  if (rank == 0) {
    for (int r = 0; r < size; ++r) new (arrivals_ + r) Arrival;
  }
  MPI_CALL(MPI_Win_lock_all(MPI_MODE_NOCHECK, window_));
  MPI_CALL(MPI_Barrier(comm));
  terms_.resize(static_cast<size_t>(size));
  if (transport == MpiTransport::kShared) return;
  peers_.emplace(comm, rank, size);
  if (peers_->open()) scratch_.resize(kPieceBytes);
}

void MpiWindow::close() {
  if (!open()) return;
  MPI_Win_unlock_all(window_);
  MPI_Win_free(&window_);
}

char* MpiWindow::slot(int rank) const {
  return base_ + (rank * kSlots + static_cast<int64_t>(piece_ % kSlots)) * kPieceBytes;
}

void MpiWindow::meet() {
  ++meetings_;
  arrivals_[rank_].times.store(meetings_, std::memory_order_release);
  for (int r = 0; r < size_; ++r) {
    SpinWait wait(crowded_);
    while (arrivals_[r].times.load(std::memory_order_acquire) < meetings_) wait.once();
  }
}

bool MpiWindow::direct(int64_t bytes) const { return peers() && bytes >= MpiPeerMemory::kWorthwhileBytes; }

void MpiWindow::show(const char* data) {
  arrivals_[rank_].data = data;
  meet();
}

void MpiWindow::combine_shown(DType dtype, ReduceOp op, int64_t offset, int64_t n, char* out) {
  const int64_t element = dtype_bytes(dtype), at_a_time = kPieceBytes / element / size_;
  for (int64_t at = 0; at < n; at += at_a_time) {
    const int64_t count = std::min(at_a_time, n - at), from = offset + at * element;
    for (int r = 0; r < size_; ++r) {
      char* piece = scratch_.data() + r * at_a_time * element;
      if (r != rank_) peers_->read(r, arrivals_[r].data + from, piece, count * element);
      terms_[static_cast<size_t>(r)] = r == rank_ ? arrivals_[r].data + from : piece;
    }
    combine(dtype, op, count, terms_, out + at * element);
  }
}

void MpiWindow::all_reduce(DType dtype, ReduceOp op, int64_t n, char* data) {
  const int64_t element = dtype_bytes(dtype), at_a_time = kPieceBytes / element;
  if (direct(n * element)) {
    const auto begin = [&](int r) { return part_begin(n, r, size_) * element; };
    show(data);
    combine_shown(dtype, op, begin(rank_), (begin(rank_ + 1) - begin(rank_)) / element, data + begin(rank_));
    meet();
    for (int r = 0; r < size_; ++r) {
      if (r != rank_) peers_->read(r, arrivals_[r].data + begin(r), data + begin(r), begin(r + 1) - begin(r));
    }
    return meet();
  }
  for (int64_t at = 0; at < n; at += at_a_time, next_piece()) {
    const int64_t count = std::min(at_a_time, n - at);
    char* piece = data + at * element;
    std::memcpy(slot(rank_), piece, static_cast<size_t>(count * element));
    meet();
    // This rank adds its slice of everybody's piece into its own slot, where nobody else reads that slice before.
    const auto begin = [&](int r) { return part_begin(count, r, size_) * element; };
    for (int r = 0; r < size_; ++r) terms_[static_cast<size_t>(r)] = slot(r) + begin(rank_);
    combine(dtype, op, (begin(rank_ + 1) - begin(rank_)) / element, terms_, slot(rank_) + begin(rank_));
    meet();
    for (int r = 0; r < size_; ++r) {
      std::memcpy(piece + begin(r), slot(r) + begin(r), static_cast<size_t>(begin(r + 1) - begin(r)));
    }
  }
}

void MpiWindow::reduce_scatter(DType dtype, int64_t n, const char* in, char* out) {
  const int64_t element = dtype_bytes(dtype), at_a_time = kPieceBytes / element / size_;
  if (direct(n * size_ * element)) {
    show(in);
    combine_shown(dtype, ReduceOp::kSum, rank_ * n * element, n, out);
    return meet();
  }
  for (int64_t at = 0; at < n; at += at_a_time, next_piece()) {
    const int64_t count = std::min(at_a_time, n - at), bytes = count * element;
    const auto own_block = [&](int r) { return in + (r * n + at) * element; };
    for (int r = 0; r < size_; ++r) {
      if (r != rank_) std::memcpy(slot(rank_) + r * bytes, own_block(r), static_cast<size_t>(bytes));
    }
    meet();
    for (int r = 0; r < size_; ++r) {
      terms_[static_cast<size_t>(r)] = r == rank_ ? own_block(rank_) : slot(r) + rank_ * bytes;
    }
    combine(dtype, ReduceOp::kSum, count, terms_, out + at * element);
  }
}

void MpiWindow::all_gather(int64_t bytes, const char* in, char* out) {
  if (out + rank_ * bytes != in) std::memmove(out + rank_ * bytes, in, static_cast<size_t>(bytes));
  if (direct(bytes * size_)) {
    show(out + rank_ * bytes);
    for (int r = 0; r < size_; ++r) {
      if (r != rank_) peers_->read(r, arrivals_[r].data, out + r * bytes, bytes);
    }
    return meet();
  }
  for (int64_t at = 0; at < bytes; at += kPieceBytes, next_piece()) {
    const size_t count = static_cast<size_t>(std::min(kPieceBytes, bytes - at));
    std::memcpy(slot(rank_), out + rank_ * bytes + at, count);
    meet();
    for (int r = 0; r < size_; ++r) {
      if (r != rank_) std::memcpy(out + r * bytes + at, slot(r), count);
    }
  }
}

}  // namespace sluice
