#include "runtime/grace_time.h"

#include <fmt/format.h>
#include <glog/logging.h>

namespace sluice {

void GraceTime::tell(double stop_s) {
  stop_s_ = stop_s;
  tell();
}

void GraceTime::see_writing(double seconds) {
  if (seconds <= writing_s_) return;
  writing_s_ = seconds;
  if (stop_s_ >= 0) tell();
}

void GraceTime::tell() const {
  constexpr double kLauncher_s = 5;
  const double grace_s = kLauncher_s + 2 * (stop_s_ + 2 * writing_s_);
  if (!speaks_) return;
  LOG(INFO) << fmt::format("SIGUSR1 or SIGTERM has the run save what it has done and end within {:.1f} s", grace_s);
}

}  // namespace sluice
