#pragma once

#include <cstdint>

namespace sluice {

/// Calls of operator new that this thread has made; counted in the program that links allocations.cc.
int64_t allocations_of_this_thread();

}  // namespace sluice
