#include "runtime/signals.h"

#include <atomic>
#include <csignal>
#include <unistd.h>

namespace sluice {
namespace {

std::atomic<int> signals_came{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may use no other");

void count(int) {
  if (signals_came.fetch_add(1) > 0) ::_exit(1);
}

}  // namespace

void heed_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = count;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (int signal : {SIGUSR1, SIGTERM}) ::sigaction(signal, &action, nullptr);
}

bool stop_signal_came() { return signals_came > 0; }

}  // namespace sluice
