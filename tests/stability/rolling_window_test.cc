#include "runtime/stability/rolling_window.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(RollingWindow, HasTheQuantilesOfItsLastValues) {
  std::mt19937 generator(1);
  // Few different ones, so that equal values come and go.
  std::uniform_int_distribution<int> draw(-4, 4);
  RollingWindow window(7);
  std::vector<double> values;
  for (int i = 0; i < 200; ++i) {
    values.push_back(draw(generator));
    window.add(values.back());
    std::vector<double> last(values.end() - std::min<ptrdiff_t>(7, static_cast<ptrdiff_t>(values.size())),
                             values.end());
    std::sort(last.begin(), last.end());
    ASSERT_EQ(window.count(), last.size());
    EXPECT_EQ(window.quantile(0), last.front());
    EXPECT_EQ(window.quantile(1), last.back());
    EXPECT_EQ(window.median(), (last[(last.size() - 1) / 2] + last[last.size() / 2]) / 2);
  }
}

TEST(RollingWindow, InterpolatesBetweenValues) {
  RollingWindow window(5);
  for (double value : {3.0, 1.0, 2.0}) window.add(value);
  EXPECT_DOUBLE_EQ(window.quantile(0.1), 1.2);
  EXPECT_DOUBLE_EQ(window.quantile(0.75), 2.5);
}

}  // namespace
}  // namespace sluice
