#include "runtime/phase_timer.h"

#include <cmath>

namespace sluice {
namespace {

double ms_between(PhaseTimer::Clock::time_point a, PhaseTimer::Clock::time_point b) {
  return std::chrono::duration<double, std::milli>(b - a).count();
}

std::string whole_ms(double ms) { return std::to_string(std::lround(ms)); }

}  // namespace

void PhaseTimer::mark(const std::string& name) {
  const Clock::time_point now = Clock::now();
  phases_ms_.emplace_back(name, ms_between(last_, now));
  last_ = now;
}

std::string PhaseTimer::summary() const {
  std::string parts;
  for (const auto& [name, ms] : phases_ms_) parts += (parts.empty() ? "" : ", ") + name + " " + whole_ms(ms);
  return whole_ms(ms_between(start_, last_)) + " ms (" + parts + ")";
}

}  // namespace sluice
