#include "runtime/stability/curve_file.h"

#include <cmath>

#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

TEST(CurveFile, IsATableOfStepsAndLosses) {
  const TempFolder folder;
  const std::vector<CurvePoint> curve = read_curve(folder.write("a.csv", "step,lm_loss\n1,9.5\n37,8.25e0\n40,nan\n\n"));
  ASSERT_EQ(curve.size(), 3u);
  EXPECT_EQ(curve[1].step, 37);
  EXPECT_EQ(curve[1].value, 8.25);
  EXPECT_TRUE(std::isnan(curve[2].value));
  const std::vector<CurvePoint> other = read_curve(folder.write("b.csv", "time,lm_loss,step,x\r\n0.5,9.5,1,2\r\n"));
  ASSERT_EQ(other.size(), 1u);
  EXPECT_EQ(other[0].step, 1);
  EXPECT_EQ(other[0].value, 9.5);
}

TEST(CurveFile, IsARunsMetrics) {
  const TempFolder folder;
  const std::vector<CurvePoint> curve = read_curve(
      folder.write("metrics.jsonl", "{\"step\":1,\"loss\":3,\"lm_loss\":2.5}\n{\"step\":2,\"lm_loss\":null}\n"));
  ASSERT_EQ(curve.size(), 2u);
  EXPECT_EQ(curve[0].value, 2.5);
  EXPECT_TRUE(std::isnan(curve[1].value));
}

TEST(CurveFile, WhatIsNoneIsRefusedByFileAndLine) {
  const TempFolder folder;
  const auto error = [&](const std::string& text) {
    return error_of([&] { read_curve(folder.write("curve.csv", text)); });
  };
  EXPECT_THAT(error(""), HasSubstr("curve.csv: has no losses"));
  EXPECT_THAT(error("step,lm_loss\n"), HasSubstr("curve.csv: has no losses"));
  EXPECT_THAT(error("step,loss\n1,2\n"), HasSubstr("curve.csv:1: no column lm_loss; expected a first line such as"));
  EXPECT_THAT(error("step,lm_loss\n1\n"), HasSubstr("curve.csv:2: expected 2 columns, got 1"));
  EXPECT_THAT(error("step,lm_loss\n1,2\n2,two\n"), HasSubstr("curve.csv:3: lm_loss: expected a number, got \"two\""));
  EXPECT_THAT(error("step,lm_loss\n1.5,2\n"), HasSubstr("curve.csv:2: step: expected a number, got \"1.5\""));
  EXPECT_THAT(error("step,lm_loss\n7,2\n7,2\n"), HasSubstr("curve.csv:3: step 7 follows step 7; steps must ascend"));
  EXPECT_THAT(error("step,lm_loss\n-1,2\n"), HasSubstr("curve.csv:2: step -1 must not be negative"));
  EXPECT_THAT(error("{\"step\":1}\n"), HasSubstr("curve.csv:1: expected a JSON object with a whole number `step`"));
  EXPECT_THAT(error("{\"step\":1,\"lm_loss\":2}\n{"), HasSubstr("curve.csv:2: expected a JSON object"));
}

}  // namespace
}  // namespace sluice
