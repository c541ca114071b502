#pragma once

#include <memory>

#include "parallel/process_group.h"

namespace sluice {

/// A rank of a world whose other ranks do not exist, for plans: calls are shown to observers as ever, and move nothing.
/// The others are taken to be like this one, so that integers, which a plan looks at, add up: a sum is this rank's
/// times their number, and what is gathered are copies of its own. Every call but a barrier is under way until it is
/// waited for. Nobody can share memory with ranks that do not exist: share() throws.
std::unique_ptr<ProcessGroup> make_planned_group(int rank, int size);

}  // namespace sluice
