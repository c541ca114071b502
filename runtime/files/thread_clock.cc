#include "runtime/files/thread_clock.h"

#include <ctime>

namespace sluice {

double thread_cpu_time_s() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace sluice
