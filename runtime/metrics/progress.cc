#include "runtime/metrics/progress.h"

#include <algorithm>
#include <cmath>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace sluice {
namespace {

constexpr double kNewStepWeight = 0.1;

/// Of a terminal that may not tell.
size_t columns(int terminal) {
  constexpr size_t kUsual = 80;
  winsize size{};
  return ::ioctl(terminal, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsual;
}

}  // namespace

std::string duration_text(double seconds) {
  const int64_t s = std::isfinite(seconds) && seconds > 0 ? std::llround(std::fmin(seconds, 1e12)) : 0;
  const int64_t minutes = s / 60, hours = minutes / 60;
  if (s < 60) return fmt::format("{}s", s);
  if (hours == 0) return fmt::format("{}m{:02}s", minutes, s % 60);
  if (hours < 24) return fmt::format("{}h{:02}m", hours, minutes % 60);
  return fmt::format("{}d{:02}h", hours / 24, hours % 24);
}

std::string progress_text(const StepMetrics& metrics, int64_t total_steps, double eta_seconds) {
  std::string text = fmt::format("step {}/{}  loss {:.4f}  lr {:.2e}  grad {:.3f}  {:.0f} tok/s", metrics.step,
                                 total_steps, metrics.loss, metrics.lr, metrics.grad_norm, metrics.tokens_per_s);
  if (metrics.mfu) text += fmt::format("  mfu {:.1f}%", *metrics.mfu * 100);
  if (metrics.communication_ms) {
    text += fmt::format("  exchange {:.1f}%", *metrics.communication_ms / metrics.step_ms * 100);
  }
  text += "  eta " + duration_text(eta_seconds);
  for (const auto& [set, loss] : metrics.eval_loss) text += fmt::format("  eval {} {:.4f}", set, loss);
  return text;
}

Progress::Progress(int file_descriptor, int64_t total_steps)
    : file_(file_descriptor), total_steps_(total_steps), terminal_(::isatty(file_descriptor)) {}

Progress::~Progress() {
  if (line_open_) put("\n");
}

void Progress::step(const StepMetrics& metrics) {
  const bool first = mean_step_ms_ == 0;
  mean_step_ms_ = first ? metrics.step_ms : mean_step_ms_ + kNewStepWeight * (metrics.step_ms - mean_step_ms_);
  if (!terminal_) return;
  constexpr const char* kClearToEndOfLine = "\x1b[K";
  const bool stays = !metrics.eval_loss.empty();
  std::string text = progress_text(metrics, total_steps_, eta_seconds(metrics));
  // Only the last row of a line that wraps could be written over.
  if (!stays) text.resize(std::min(text.size(), columns(file_) - 1));
  put(fmt::format("\r{}{}{}", text, kClearToEndOfLine, stays ? "\n" : ""));
  line_open_ = !stays;
}

void Progress::log(const StepMetrics& metrics) {
  if (!terminal_) put(progress_text(metrics, total_steps_, eta_seconds(metrics)) + "\n");
}

double Progress::eta_seconds(const StepMetrics& metrics) const {
  return static_cast<double>(total_steps_ - metrics.step) * mean_step_ms_ / 1000;
}

// A progress line that cannot be shown (a closed terminal) is no reason to end a run.
void Progress::put(const std::string& text) const {
  [[maybe_unused]] const ssize_t written = ::write(file_, text.data(), text.size());
}

}  // namespace sluice
