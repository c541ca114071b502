#include "launch/analysis/plot.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include <gmock/gmock.h>

#include "launch/analysis/page.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(AxisTicks, AreRoundNumbers) {
  EXPECT_THAT(axis_ticks(0, 10, false), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(axis_ticks(1.2, 2.2, false),
              testing::Pointwise(testing::DoubleNear(1e-9), {1.2, 1.4, 1.6, 1.8, 2.0, 2.2}));
  EXPECT_THAT(axis_ticks(1, 100, true),
              testing::Pointwise(testing::DoubleNear(1e-9), {1., 2., 5., 10., 20., 50., 100.}));
  EXPECT_THAT(axis_ticks(1e-4, 1, true), testing::Pointwise(testing::DoubleNear(1e-9), {1e-4, 1e-3, 1e-2, 1e-1, 1.}));
  EXPECT_THAT(axis_ticks(3, 3, false), ElementsAre(3));
  EXPECT_EQ(axis_ticks(0, kInfinity, false).size(), 1u);
  EXPECT_LT(axis_ticks(1e-300, 1e300, true).size(), 20u);
  EXPECT_LT(axis_ticks(4e18, 4e18 + 1024, false).size(), 20u) << "which no double tells apart";
}

TEST(PlotFigure, DrawsLinesBarsAndPoints) {
  Plot plot{"Loss <1>", {"step"}, {"loss"}};
  plot.series.push_back({.name = "a & b", .x = {0, 10}, .y = {4, 2}, .low = {3, 1}, .high = {5, 3}, .points = true});
  plot.series.push_back({.name = "other", .color = 9, .strength = 0.5, .x = {0, 10}, .y = {4, 2}});
  const std::string figure = plot_figure(plot);
  EXPECT_THAT(figure, AllOf(HasSubstr("Loss &lt;1&gt;"), HasSubstr("a &amp; b"), Not(HasSubstr("a & b"))));
  EXPECT_EQ(count(figure, "class=\"line\""), 2u);
  EXPECT_EQ(count(figure, "class=\"bar\""), 2u);
  EXPECT_EQ(count(figure, "class=\"point\""), 2u);
  EXPECT_THAT(figure, AllOf(HasSubstr("--c:var(--s1)"), HasSubstr("color-mix(in oklab,var(--s2) 50%")));
}

/// The first line's places, as SVG writes a path.
std::string path_of(const std::string& figure) {
  const std::string before = "class=\"line\" d=\"";
  const size_t begin = figure.find(before);
  EXPECT_NE(begin, std::string::npos);
  if (begin == std::string::npos) return "";
  const size_t from = begin + before.size();
  return figure.substr(from, figure.find('"', from) - from);
}

/// The y of these places.
std::vector<double> heights(const std::string& figure) {
  std::istringstream path(path_of(figure));
  std::vector<double> heights;
  char move = 0;
  for (double x = 0, y = 0; path >> move >> x >> y;) heights.push_back(y);
  return heights;
}

TEST(PlotFigure, WhatIsNoNumberIsAGapAndWhatIsAboveIsAtTheEdge) {
  Plot plot{"", {"x"}, {"y"}};
  plot.y.least = 0;
  plot.y.largest = 10;
  plot.series.push_back({.x = {0, 1, 2, 3, 4}, .y = {5, std::nan(""), 5, 1e30, 10}});
  const std::string figure = plot_figure(plot);
  const std::vector<double> y = heights(figure);
  ASSERT_EQ(y.size(), 4u);
  EXPECT_EQ(y[2], y[3]);
  EXPECT_LT(y[3], y[0]);
  EXPECT_EQ(count(path_of(figure), "M"), 2u);
  EXPECT_THAT(figure, Not(HasSubstr("nan")));
}

TEST(PlotFigure, WhatIsFarAboveDoesNotPressTheRestTogether) {
  Plot plot{"", {"x"}, {"y"}};
  plot.y.largest = 8;
  plot.series.push_back({.x = {0, 1, 2}, .y = {7, 7.5, 1e30}});
  const std::vector<double> y = heights(plot_figure(plot));
  ASSERT_EQ(y.size(), 3u);
  EXPECT_GT(y[0] - y[1], 100) << "half of what is shown";
}

TEST(PlotFigure, ALogarithmicAxisHasNoPlaceForZero) {
  Plot plot{"", {"x", true}, {"y", true}};
  plot.series.push_back({.x = {0, 1, 10, 100}, .y = {1, 1, 10, -1}});
  EXPECT_EQ(heights(plot_figure(plot)).size(), 2u);
}

TEST(PlotFigure, AManyPointedLineKeepsItsExtremes) {
  Plot plot{"", {"x"}, {"y"}};
  Series series;
  for (int i = 0; i < 100000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 54321 ? 9 : 1);
  }
  plot.series.push_back(series);
  const std::vector<double> y = heights(plot_figure(plot));
  EXPECT_LE(y.size(), 2000u);
  EXPECT_LT(*std::min_element(y.begin(), y.end()), 50);
}

TEST(PlotFigure, HoldsWithoutAnyPoint) {
  EXPECT_THAT(plot_figure({"empty", {"x"}, {"y", true}}), AllOf(HasSubstr("<svg"), Not(HasSubstr("inf"))));
}

TEST(HeatMapFigure, ColoursFromLeastToLargest) {
  HeatMap map{"map", "step", "layer"};
  map.x_labels = {"10", "20"};
  map.rows = {{1, 3}, {2, std::nan("")}};
  const std::string figure = heat_map_figure(map);
  EXPECT_EQ(count(figure, "<rect"), 3u);
  EXPECT_THAT(figure, AllOf(HasSubstr("fill-opacity=\"0.04\""), HasSubstr("fill-opacity=\"0.52\""),
                            HasSubstr("fill-opacity=\"1.00\""), HasSubstr("layer 0, step 20: 3")));
  EXPECT_EQ(heat_map_figure({"none", "x", "y"}), "");
}

TEST(HtmlPage, HasNothingOfOthers) {
  HtmlPage page("a < b");
  page.section("one", "One", html_table({{"name", "n"}, {{"<script>", "1.5"}, {"x", "-"}}}));
  page.section("none", "None", "");
  const std::string text = page.text();
  EXPECT_THAT(text, AllOf(HasSubstr("a &lt; b"), HasSubstr("&lt;script&gt;"), HasSubstr("<th class=\"number\">n</th>"),
                          HasSubstr("<td>x</td>"), HasSubstr("href=\"#one\""), Not(HasSubstr("None"))));
  EXPECT_THAT(text, AllOf(Not(HasSubstr("http")), Not(HasSubstr("<script"))));
}

}  // namespace
}  // namespace sluice
