#include "parallel/traffic.h"

namespace sluice {

Traffic* TrafficMeter::add_time(const GroupCall& call) {
  if (call.group.size() == 1) return nullptr;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  Traffic& traffic = traffic_[{call.group.name(), call.operation}];
  traffic.seconds += elapsed.count();
  return &traffic;
}

void TrafficMeter::after(const GroupCall& call) {
  if (Traffic* traffic = add_time(call)) {
    ++traffic->calls;
    traffic->bytes_sent += call.bytes_sent;
  }
}

void TrafficMeter::after_wait(const GroupCall& call) { add_time(call); }

Traffic TrafficMeter::total() const {
  Traffic total;
  for (const auto& [operation, traffic] : traffic_) {
    total.calls += traffic.calls;
    total.bytes_sent += traffic.bytes_sent;
    total.seconds += traffic.seconds;
  }
  return total;
}

}  // namespace sluice
