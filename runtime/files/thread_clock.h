#pragma once

namespace sluice {

/// CPU time of the calling thread, seconds.
double thread_cpu_time_s();

}  // namespace sluice
