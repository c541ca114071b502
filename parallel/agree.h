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
void agree(ProcessGroup& group, const Body& body) {
  std::string message;
  Fault fault = Fault::kUser;
  int64_t first_failed = -1;  // as the maximum of size - rank over the ranks that failed
  try {
    body();
  } catch (const Error& error) {
    message = error.what();
    fault = error.fault();
    first_failed = group.size() - group.rank();
  }
  int64_t agreed = first_failed;
  group.all_reduce({&agreed, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax).wait();
  if (agreed < 0) return;
  throw AgreedError(agreed == first_failed ? message : "", fault);
}

/// Rank 0's string on every rank. Every rank calls it.
std::string broadcast_string(ProcessGroup& group, std::string text);

}  // namespace sluice
