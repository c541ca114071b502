#include "parallel/traffic.h"

namespace sluice {

void TrafficMeter::after(const GroupCall& call) {
  if (call.group.size() == 1) return;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  Traffic& traffic = traffic_[{call.group.name(), call.operation}];
  ++traffic.calls;
  traffic.bytes_sent += call.bytes_sent;
  traffic.seconds += elapsed.count();
}

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
