#pragma once

#include <atomic>
#include <memory>
#include <span>

#include <mpi.h>

#include "parallel/mpi_session.h"
#include "parallel/process_group.h"

namespace sluice {

/// A one-way channel in shared memory between every two ranks of a communicator on one node: a few slots that the
/// sender fills and the receiver empties. Nobody waits for ranks that it has nothing to do with.
class MpiChannels {
 public:
  /// Collective. Stays closed when the ranks are on several nodes, or messages are asked for.
  MpiChannels(MPI_Comm comm, int rank, int size, MpiTransport transport);
  ~MpiChannels();
  /// Collective. Must come before the communicator is freed.
  void close() { memory_.reset(); }

  bool open() const { return memory_ != nullptr; }
  /// Collective. Rows of `in` to the ranks of `send`, rows of `out` from those of `receive`; this rank's own among
  /// them. Throws Error (Fault::kHang) when a rank sends another number of bytes than expected; `group` names the
  /// group.
  void all_to_all(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive,
                  const std::string& group);

 private:
  struct Channel;
  Channel& channel(int from, int to) const;
  bool send_some(RowStream& stream, int to, bool& begun);
  bool receive_some(RowStream& stream, int from, bool& begun, const std::string& group);

  int rank_, size_;
  bool crowded_ = false;
  std::unique_ptr<NodeMemory> memory_;
};

/// Throws Error (Fault::kHang) unless what another rank sends is what this one expects.
void check_sent(const std::string& group, int from, int64_t sent, int to, int64_t expected);

}  // namespace sluice
