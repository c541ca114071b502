#include "runtime/grace_time.h"

#include <algorithm>

#include <fmt/format.h>
#include <glog/logging.h>

namespace sluice {

void GraceTime::tell(double stop_s) {
  stop_s_ = stop_s;
  tell();
}

void GraceTime::see(double stop_s, double writing_s) {
  stop_s_ = std::max(stop_s_, stop_s);
  writing_s_ = std::max(writing_s_, writing_s);
  if (needed_s() > 1.5 * told_for_s_) tell();
}

void GraceTime::tell() {
  constexpr double kLauncher_s = 5;
  told_for_s_ = needed_s();
  const double grace_s = kLauncher_s + 2 * told_for_s_;
  if (!speaks_) return;
  LOG(INFO) << fmt::format("SIGUSR1 or SIGTERM has the run save what it has done and end within {:.1f} s", grace_s);
}

}  // namespace sluice
