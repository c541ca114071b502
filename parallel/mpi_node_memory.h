#pragma once

#include <memory>

#include <mpi.h>

#include "parallel/mpi_session.h"
#include "parallel/process_group.h"

namespace sluice {

/// A shared window over the ranks of a communicator that run on one node; when messages are asked for, every rank is
/// taken for a node of its own. Collective, as giving it back is.
std::unique_ptr<NodeMemory> make_mpi_node_memory(MPI_Comm comm, int rank, int64_t bytes, MpiTransport transport);

}  // namespace sluice
