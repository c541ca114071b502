#pragma once

#include <string>

#include "kernels/core/error.h"
#include "parallel/process_group.h"

namespace sluice {

/// Thrown on every rank when some rank failed in agree(): all may leave in good order. The message is empty on all but
/// the lowest rank that failed, so that one message appears.
class AgreedError : public Error {
 public:
  explicit AgreedError(const std::string& message, Fault fault) : Error(message, __FILE__, __LINE__, fault) {}
};

/// Runs `body` on every rank and then compares notes: if it threw Error anywhere, every rank throws AgreedError.
/// `body` makes no collective call. Every rank calls it.
template <class Body>
void agree(ProcessGroup& group, const Body& body, Site site = Site::current()) {
  std::string message;
  int64_t failed = -1;  // 2 * (size - rank), and 1 more for an internal fault: the largest is that of the lowest rank
  try {
    body();
  } catch (const Error& error) {
    message = error.what();
    failed = 2 * (group.size() - group.rank()) + (error.fault() == Fault::kInternal ? 1 : 0);
  }
  int64_t agreed = failed;
  group.all_reduce({&agreed, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax, SumOrder::kOrdered, site).wait();
  if (agreed < 0) return;
  throw AgreedError(agreed == failed ? message : "", agreed % 2 ? Fault::kInternal : Fault::kUser);
}

/// The string of `root` on every rank. Every rank calls it.
std::string broadcast_string(ProcessGroup& group, std::string text, int root = 0);

}  // namespace sluice
