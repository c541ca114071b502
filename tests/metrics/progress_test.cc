#include "runtime/metrics/progress.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace sluice {
namespace {

StepMetrics sample_step() {
  StepMetrics metrics;
  metrics.step = 120;
  metrics.loss = 4.1234;
  metrics.lr = 1e-3;
  metrics.grad_norm = 0.5123;
  metrics.tokens_per_s = 5310.4;
  metrics.step_ms = 500;
  return metrics;
}

std::string read_some(int file) {
  char buffer[4096];
  const ssize_t size = ::read(file, buffer, sizeof buffer);
  return size > 0 ? std::string(buffer, static_cast<size_t>(size)) : "";
}

TEST(Progress, TellsEverythingInOneLine) {
  StepMetrics metrics = sample_step();
  metrics.mfu = 0.312;
  metrics.eval_loss = {{"prose", 3.9}};
  EXPECT_EQ(progress_text(metrics, 600, 185),
            "step 120/600  loss 4.1234  lr 1.00e-03  grad 0.512  5310 tok/s  mfu 31.2%  eta 3m05s  eval prose 3.9000");
}

TEST(Progress, DurationsUseTwoUnits) {
  EXPECT_EQ(duration_text(0.4), "0s");
  EXPECT_EQ(duration_text(59.6), "1m00s");
  EXPECT_EQ(duration_text(7625), "2h07m");
  EXPECT_EQ(duration_text(4 * 86400 + 3 * 3600), "4d03h");
  EXPECT_EQ(duration_text(-1), "0s");
}

TEST(Progress, WritesALineForEachLoggedStepIntoAPipe) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  {
    Progress progress(pipe_ends[1], 600);
    progress.step(sample_step());
    progress.log(sample_step());
    progress.step(sample_step());
  }
  EXPECT_EQ(read_some(pipe_ends[0]), "step 120/600  loss 4.1234  lr 1.00e-03  grad 0.512  5310 tok/s  eta 4m00s\n");
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
}

/// What a terminal of so many columns is sent; 0: it does not tell.
template <class Body>
std::string shown(uint16_t columns, const Body& body) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  EXPECT_EQ(::grantpt(terminal) | ::unlockpt(terminal), 0);
  const int screen = ::open(::ptsname(terminal), O_WRONLY | O_NOCTTY);
  EXPECT_GE(screen, 0);
  const winsize size{24, columns, 0, 0};
  EXPECT_EQ(::ioctl(screen, TIOCSWINSZ, &size), 0);
  {
    Progress progress(screen, 600);
    body(progress);
  }
  ::close(screen);
  // A terminal may hand on what was written in parts; behind the last it has an error.
  std::string text, part;
  while (!(part = read_some(terminal)).empty()) text += part;
  ::close(terminal);
  return text;
}

TEST(Progress, RewritesOneLineOnATerminal) {
  EXPECT_EQ(shown(0,
                  [](Progress& progress) {
                    progress.step(sample_step());
                    progress.log(sample_step());
                  }),
            "\rstep 120/600  loss 4.1234  lr 1.00e-03  grad 0.512  5310 tok/s  eta 4m00s\x1b[K\r\n");
}

TEST(Progress, CutsTheLineToTheTerminal) {
  EXPECT_EQ(shown(20, [](Progress& progress) { progress.step(sample_step()); }), "\rstep 120/600  loss \x1b[K\r\n");
}

TEST(Progress, ALineWithAnEvaluationStaysWhole) {
  StepMetrics metrics = sample_step();
  metrics.eval_loss = {{"prose", 3.9}};
  EXPECT_EQ(shown(20, [&](Progress& progress) { progress.step(metrics); }),
            "\rstep 120/600  loss 4.1234  lr 1.00e-03  grad 0.512  5310 tok/s  eta 4m00s  eval prose 3.9000\x1b[K\r\n");
}

}  // namespace
}  // namespace sluice
