#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "parallel/process_group.h"

namespace sluice {

/// Ranks as threads of one process, for unit tests, debuggers and sanitizers: rank i's group is element i. Sums are
/// ordered whatever is asked for.
std::vector<std::unique_ptr<ProcessGroup>> make_thread_groups(int size);

/// Runs body(group) on `size` threads, one a rank. When a rank throws, the calls of the others throw too instead of
/// waiting for ever, and the first exception is rethrown here.
void run_ranks(int size, const std::function<void(ProcessGroup&)>& body);

}  // namespace sluice
