#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <mpi.h>

#include "parallel/mpi_session.h"
#include "parallel/process_group.h"

namespace sluice {

/// A one-way channel in shared memory between every two ranks of a communicator on one node: a few slots that the
/// sender fills and the receiver empties. Nobody waits for ranks that it has nothing to do with.
class MpiChannels {
 public:
  /// Collective. All ranks must be on one node.
  MpiChannels(MPI_Comm comm, int rank, int size, MpiTransport transport);
  /// Collective. Must come before the communicator is freed.
  ~MpiChannels();

  /// Collective. Rows of `in` to the ranks of `send`, rows of `out` from those of `receive`; this rank's own among
  /// them. Throws CountMismatch; `group` names the group.
  void all_to_all(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive,
                  const std::string& group);

 private:
  struct Channel;
  /// What this rank exchanges with another one, in one direction.
  struct Way {
    int rank;
    RowStream stream;
    bool begun = false;
    bool done() const { return begun && stream.left() == 0; }
  };
  Channel& channel(int from, int to) const;
  bool send_some(Way& way);
  bool receive_some(Way& way, const std::string& group);

  int rank_, size_;
  bool crowded_ = false;
  std::vector<Way> sends_, receives_;  // of the call under way
  std::unique_ptr<NodeMemory> memory_;
};

/// Throws CountMismatch unless what another rank sends is what this one expects.
void check_sent(const std::string& group, int from, int64_t sent, int to, int64_t expected);

}  // namespace sluice
