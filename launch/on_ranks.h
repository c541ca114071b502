#pragma once

#include <cstdio>
#include <cstdlib>

#include "launch/session.h"
#include "parallel/agree.h"
#include "parallel/fatal.h"

namespace sluice {

/// Runs body(session) on every rank of the job. What all ranks agreed to stop for is said by one of them while the
/// others wait in the end of MPI.
template <class Body>
int in_session(const Body& body) {
  Session session;
  try {
    body(session);
    return 0;
  } catch (const AgreedError& error) {
    if (*error.what()) std::fprintf(stderr, "error: %s\n", error.what());
    std::fflush(stderr);
    return exit_code(error.fault());
  }
}

/// Whether this is the one rank that speaks before there is a group.
inline bool is_first_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"}) {
    if (const char* rank = std::getenv(name)) return std::atoi(rank) == 0;
  }
  return true;
}

/// Runs the body of a command that needs no group of ranks; started by a launcher, it is for one rank to do.
template <class Body>
int on_first_rank(const Body& body) {
  if (is_first_rank()) body();
  return 0;
}

}  // namespace sluice
