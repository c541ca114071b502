#include "parallel/mpi_node_memory.h"

#include <cstring>
#include <exception>

#include "parallel/mpi_call.h"

namespace sluice {
namespace {

constexpr uintptr_t kLine = 64;

class MpiNodeMemory : public NodeMemory {
 public:
  MpiNodeMemory(MPI_Comm comm, int rank, int64_t bytes, MpiTransport transport) {
    if (transport == MpiTransport::kMessages) {
      MPI_CALL(MPI_Comm_split(comm, rank, 0, &node_));
    } else {
      MPI_CALL(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node_));
    }
    int size = 0;
    MPI_CALL(MPI_Comm_size(node_, &size));
    ranks_.resize(static_cast<size_t>(size));
    MPI_CALL(MPI_Allgather(&rank, 1, MPI_INT, ranks_.data(), 1, MPI_INT, node_));
    void* own = nullptr;
    MPI_CALL(MPI_Win_allocate_shared(static_cast<MPI_Aint>(bytes) + kLine, 1, MPI_INFO_NULL, node_, &own, &window_));
    for (int r = 0; r < size; ++r) {
      MPI_Aint part_bytes = 0;
      int unit = 0;
      void* part = nullptr;
      MPI_CALL(MPI_Win_shared_query(window_, r, &part_bytes, &unit, &part));
      // Parts lie at the same distance from a line in every process, pages being what is mapped.
      const uintptr_t at = reinterpret_cast<uintptr_t>(part);
      parts_.push_back(reinterpret_cast<void*>((at + kLine - 1) / kLine * kLine));
      if (r == own_index(rank)) std::memset(parts_.back(), 0, static_cast<size_t>(bytes));
    }
    MPI_CALL(MPI_Win_lock_all(MPI_MODE_NOCHECK, window_));
    MPI_CALL(MPI_Barrier(node_));
  }

  ~MpiNodeMemory() override {
    // As for groups: who fails alone would wait for nobody.
    if (std::uncaught_exceptions() > exceptions_at_start_) return;
    MPI_Win_unlock_all(window_);
    MPI_Win_free(&window_);
    MPI_Comm_free(&node_);
  }

 private:
  int own_index(int rank) const {
    int index = 0;
    while (ranks_[static_cast<size_t>(index)] != rank) ++index;
    return index;
  }

  const int exceptions_at_start_ = std::uncaught_exceptions();
  MPI_Comm node_ = MPI_COMM_NULL;
  MPI_Win window_ = MPI_WIN_NULL;
};

}  // namespace

std::unique_ptr<NodeMemory> make_mpi_node_memory(MPI_Comm comm, int rank, int64_t bytes, MpiTransport transport) {
  return std::make_unique<MpiNodeMemory>(comm, rank, bytes, transport);
}

}  // namespace sluice
