#pragma once

#include "kernels/core/error.h"

namespace sluice {

/// What the program exits with for an Error of this fault.
constexpr int exit_code(Fault fault) {
  switch (fault) {
    case Fault::kUser:
    case Fault::kDamage:
      return 1;
    case Fault::kInternal:
      return 2;
    case Fault::kHang:
      return 3;
    case Fault::kDiverged:
      return 4;
    case Fault::kPreempted:
      return 5;
    case Fault::kNotSaved:
      return 6;
  }
  return 2;
}

/// Ends the job from a rank that cannot go on: waits 100 ms x min(rank, 20), so that one of many failing ranks speaks,
/// prints one line "[rank 2/8 host] error: text" and aborts every rank with `code`. Works before, with and without MPI,
/// and from any thread.
[[noreturn]] void fatal(int code, const char* text);

}  // namespace sluice
