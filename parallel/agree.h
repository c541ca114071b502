#pragma once

#include <exception>
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
  constexpr int64_t kFaults = 8;
  int64_t failed = -1;  // kFaults * (size - rank) + fault: the largest is that of the lowest rank
  try {
    body();
  } catch (const Error& error) {
    message = error.what();
    failed = kFaults * (group.size() - group.rank()) + static_cast<int64_t>(error.fault());
  }
  int64_t agreed = failed;
  group.all_reduce({&agreed, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax, SumOrder::kOrdered, site).wait();
  if (agreed < 0) return;
  throw AgreedError(agreed == failed ? message : "", static_cast<Fault>(agreed % kFaults));
}

/// Runs `body` and returns the AgreedError that it throws, so that what it has used can be given up as after a good
/// end, MPI's resources too. Throws those after which calls are still under way: of Fault::kHang and kPreempted.
template <class Body>
std::exception_ptr orderly_end(const Body& body) {
  try {
    body();
  } catch (const AgreedError& error) {
    if (error.fault() == Fault::kHang || error.fault() == Fault::kPreempted) throw;
    return std::current_exception();
  }
  return nullptr;
}

/// The string of `root` on every rank. Every rank calls it.
std::string broadcast_string(ProcessGroup& group, std::string text, int root = 0);

/// The message of an AgreedError on every rank. Every rank calls it with what it caught.
std::string shared_message(ProcessGroup& group, const AgreedError& error);

/// Runs `body` as agree() does. Returns what went wrong where that is of this fault, on every rank; empty: nothing.
/// Throws AgreedError for other faults.
template <class Body>
std::string agreed_failure(ProcessGroup& group, Fault fault, const Body& body) {
  try {
    agree(group, body);
  } catch (const AgreedError& error) {
    if (error.fault() != fault) throw;
    return shared_message(group, error);
  }
  return "";
}

}  // namespace sluice
