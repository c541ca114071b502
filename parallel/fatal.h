#pragma once

namespace sluice {

/// Ends the job from a rank that cannot go on: waits 100 ms x min(rank, 20), so that one of many failing ranks speaks,
/// prints one line "[rank 2/8 host] error: text" and aborts every rank with `code`. Works before, with and without MPI.
[[noreturn]] void fatal(int code, const char* text);

}  // namespace sluice
