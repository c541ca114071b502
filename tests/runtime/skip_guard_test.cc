#include "runtime/skip_guard.h"

#include <limits>

#include "parallel/agree.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

/// A step whose gradient norm is infinite, if it is skipped.
void see(SkipGuard& guard, int64_t step, bool skipped) {
  StepResult result;
  result.grad_norm = skipped ? std::numeric_limits<double>::infinity() : 1;
  result.skipped = skipped;
  StabilityMonitor monitor{StabilityConfig()};
  guard.see(step, result, monitor.see(step, 2.5, result.grad_norm));
}

TEST(SkipGuard, NotesEverySkip) {
  const TempFolder folder;
  SkipGuard guard(folder / "", 10, true);
  see(guard, 1, false);
  EXPECT_FALSE(folder.has("audit.jsonl"));
  see(guard, 2, true);
  EXPECT_EQ(folder.read("audit.jsonl"), "{\"step\":2,\"event\":\"skip\",\"reason\":\"grad_norm is inf\"}\n");
}

TEST(SkipGuard, TenSkipsInARowEndTheRun) {
  const TempFolder folder;
  SkipGuard guard(folder / "", 10, true), silent(folder / "", 10, false);
  for (const bool skipped : {true, false}) see(guard, 1, skipped);
  for (int64_t step = 3; step < 12; ++step) {
    see(guard, step, true);
    see(silent, step, true);
    guard.check();
  }
  see(guard, 12, true);
  see(silent, 12, true);
  const auto ends = [](const SkipGuard& one) -> std::string {
    try {
      one.check();
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.fault(), Fault::kDiverged);
      return error.what();
    }
    ADD_FAILURE() << "the run goes on";
    return "";
  };
  EXPECT_THAT(
      ends(guard),
      HasSubstr("the run has diverged: 10 updates in a row were skipped, the last in step 12: grad_norm is inf; try"));
  EXPECT_EQ(ends(silent), "");
  EXPECT_THAT(folder.read("audit.jsonl"), HasSubstr("{\"step\":12,\"event\":\"diverged\","));
}

TEST(SkipGuard, TellsWhatWasAboveItsLimit) {
  const TempFolder folder;
  SkipGuard guard(folder / "", 1, true);
  StepResult result;
  result.skipped = true;
  SignalSpike loss, norm;
  loss.signal = "lm_loss", loss.value = 9.5, loss.limit = 3.25, loss.action = SignalPolicy::SKIP;
  loss.reading.trend = 2.5, loss.reading.noise = 0.125, loss.reading.score = 56, loss.reading.limit = 3.25;
  norm.signal = "grad_norm", norm.value = 8, norm.first = true;
  testing::internal::CaptureStderr();
  guard.see(7, result, {loss, norm});
  EXPECT_EQ(
      folder.read("audit.jsonl"),
      "{\"step\":7,\"event\":\"skip\",\"reason\":\"lm_loss 9.5 is 56 deviations above its trend; 6 or 3.25 are the "
      "limit\"}\n");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("step 7: grad_norm 8 is"))
      << "what has no part in it is told too";
  EXPECT_THROW(guard.check(), AgreedError);
}

TEST(SkipGuard, GoesOnCountingWhereAnEarlierSessionWas) {
  const TempFolder folder;
  SkipGuard guard(folder / "", 10, false);
  guard.set_in_a_row(9);
  guard.check();
  see(guard, 5, true);
  EXPECT_EQ(guard.in_a_row(), 10);
  EXPECT_THROW(guard.check(), AgreedError);
}

}  // namespace
}  // namespace sluice
