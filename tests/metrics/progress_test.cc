#include "runtime/metrics/progress.h"

#include <fcntl.h>
#include <stdlib.h>
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

TEST(Progress, RewritesOneLineOnATerminal) {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  ASSERT_EQ(::grantpt(terminal) | ::unlockpt(terminal), 0);
  const int screen = ::open(::ptsname(terminal), O_WRONLY | O_NOCTTY);
  ASSERT_GE(screen, 0);
  {
    Progress progress(screen, 600);
    progress.step(sample_step());
    progress.log(sample_step());
  }
  EXPECT_EQ(read_some(terminal),
            "\rstep 120/600  loss 4.1234  lr 1.00e-03  grad 0.512  5310 tok/s  eta 4m00s\x1b[K\r\n");
  ::close(screen);
  ::close(terminal);
}

}  // namespace
}  // namespace sluice
