#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <mpi.h>

#include "parallel/mpi_peer_memory.h"
#include "parallel/mpi_session.h"
#include "parallel/process_group.h"

namespace sluice {

/// A one-way channel in shared memory between every two ranks of a communicator on one node: a few slots that the
/// sender fills and the receiver empties; where much is sent, the slot tells where it lies and the receiver reads it
/// there. Nobody waits for ranks that it has nothing to do with.
class MpiChannels {
 public:
  /// Collective. All ranks must be on one node. `peers`, null where nothing is read directly, must outlive them.
  MpiChannels(MPI_Comm comm, int rank, int size, MpiTransport transport, const MpiPeerMemory* peers);
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
    bool being_read = false;  ///< by the receiver, from where it lies
    bool done() const { return begun && stream.left() == 0 && !being_read; }
  };
  Channel& channel(int from, int to) const;
  bool send_some(Way& way);
  /// Where the stream lies, when it is long enough and in few enough pieces to be read there; none otherwise.
  int64_t tell_places(RowStream& stream, char* slot) const;
  void read_places(const Channel& channel, const char* slot, Way& way);
  bool receive_some(Way& way, const std::string& group);

  int rank_, size_;
  const bool crowded_;  ///< more ranks on the node than cores
  const MpiPeerMemory* peers_;
  std::vector<MpiPeerMemory::Piece> pieces_;
  std::vector<Way> sends_, receives_;  // of the call under way
  std::unique_ptr<NodeMemory> memory_;
};

/// Throws CountMismatch unless what another rank sends is what this one expects.
void check_sent(const std::string& group, int from, int64_t sent, int to, int64_t expected);

}  // namespace sluice
