#pragma once

#include <memory>

#include "parallel/process_group.h"

namespace sluice {

/// MPI between its initialisation and its end, once a process. Where the user has not said otherwise, it makes waiting
/// ranks yield when a node has more of them than cores. Throws Error when MPI cannot start.
class MpiSession {
 public:
  MpiSession();
  /// Ends MPI, unless an exception is on its way to fatal(): other ranks may be waiting inside MPI then.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

 private:
  int exceptions_at_start_;
};

/// The process ends without MPI's end: messages to or from memory that is gone are still under way.
void end_without_mpi();

/// From here on fatal() ends this process and leaves the others of the job alone.
void fail_alone();

/// Ranks on this node as the launcher tells them, 0 when it does not.
int ranks_on_this_node();
/// Whether that is more than it has cores: who waits then gives way.
bool ranks_share_cores();

/// How ranks of one node exchange what they reduce.
enum class MpiTransport {
  kAuto,      ///< when a group lies on one node, through shared memory, and directly where that is large
  kShared,    ///< the same, but never directly, as where the system keeps processes apart
  kMessages,  ///< by messages, as between nodes
};

/// Every rank of the job. Needs a MpiSession. Groups that are split off keep the transport.
std::unique_ptr<ProcessGroup> make_mpi_world(MpiTransport transport = MpiTransport::kAuto);

}  // namespace sluice
