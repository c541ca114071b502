#include "parallel/mpi_window.h"

#include <cstring>

#include "parallel/combine.h"
#include "parallel/mpi_call.h"

namespace sluice {
namespace {

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
  // Rank 0 owns the whole block, so that its parts lie back to back.
  MPI_Aint bytes = rank == 0 ? static_cast<MPI_Aint>(capacity_bytes()) * size : 0;
  void* own = nullptr;
  MPI_CALL(MPI_Win_allocate_shared(bytes, 1, MPI_INFO_NULL, comm, &own, &window_));
  int unit = 0;
  MPI_CALL(MPI_Win_shared_query(window_, 0, &bytes, &unit, &base_));
  MPI_CALL(MPI_Win_lock_all(MPI_MODE_NOCHECK, window_));
}

void MpiWindow::close() {
  if (!open()) return;
  MPI_Win_unlock_all(window_);
  MPI_Win_free(&window_);
}

void MpiWindow::meet() {
  MPI_CALL(MPI_Win_sync(window_));
  MPI_CALL(MPI_Barrier(comm_));
  MPI_CALL(MPI_Win_sync(window_));
}

void MpiWindow::all_reduce(DType dtype, ReduceOp op, int64_t n, char* data) {
  const int64_t element = dtype_bytes(dtype);
  std::memcpy(part(rank_), data, static_cast<size_t>(n * element));
  meet();
  // This rank adds its slice of everybody's part into rank 0's part, in rank order.
  const int64_t begin = part_begin(n, rank_, size_), count = part_begin(n, rank_ + 1, size_) - begin;
  for (int r = 1; r < size_; ++r) combine(dtype, op, count, part(r) + begin * element, part(0) + begin * element);
  meet();
  std::memcpy(data, part(0), static_cast<size_t>(n * element));
  // Nobody may start the next operation while another still reads this one's result.
  meet();
}

}  // namespace sluice
