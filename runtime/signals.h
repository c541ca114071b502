#pragma once

namespace sluice {

/// From now on SIGUSR1 and SIGTERM ask this process to stop; a second one ends it at once, with exit code 1.
void heed_stop_signals();

/// Whether one of them has come. False while nobody heeds them.
bool stop_signal_came();

}  // namespace sluice
