#pragma once

#include <string>

#include <mpi.h>

#include "kernels/core/error.h"

namespace sluice {

/// MPI's text for an error code.
std::string mpi_error_text(int code);

}  // namespace sluice

/// Runs an MPI call; throws Error (internal) with the call and MPI's text when it fails.
#define MPI_CALL(expr)                                                                          \
  do {                                                                                          \
    const int mpi_code = (expr);                                                                \
    INVARIANT(mpi_code == MPI_SUCCESS, #expr, " failed: ", ::sluice::mpi_error_text(mpi_code)); \
  } while (false)
