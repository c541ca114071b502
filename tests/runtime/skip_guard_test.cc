#include "runtime/skip_guard.h"

#include <limits>

#include "parallel/agree.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

StepResult result_of(bool skipped) {
  StepResult result;
  result.grad_norm = skipped ? std::numeric_limits<double>::infinity() : 1;
  result.skipped = skipped;
  return result;
}

TEST(SkipGuard, NotesEverySkip) {
  const TempFolder folder;
  SkipGuard guard(folder / "", true);
  guard.see(1, result_of(false));
  EXPECT_FALSE(folder.has("audit.jsonl"));
  guard.see(2, result_of(true));
  EXPECT_EQ(folder.read("audit.jsonl"), "{\"step\":2,\"event\":\"skip\",\"reason\":\"the gradient norm is inf\"}\n");
}

TEST(SkipGuard, TenSkipsInARowEndTheRun) {
  const TempFolder folder;
  SkipGuard guard(folder / "", true), silent(folder / "", false);
  for (const bool skipped : {true, false}) guard.see(1, result_of(skipped));
  for (int64_t step = 3; step < 12; ++step) {
    guard.see(step, result_of(true));
    silent.see(step, result_of(true));
    guard.check();
  }
  guard.see(12, result_of(true));
  silent.see(12, result_of(true));
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
  EXPECT_THAT(ends(guard), HasSubstr("the run has diverged: the gradient norm was not finite in 10 steps in a row"));
  EXPECT_EQ(ends(silent), "");
}

}  // namespace
}  // namespace sluice
