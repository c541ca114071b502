#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sluice {

/// One line or cloud of points of a plot.
struct Series {
  std::string name{};   ///< in the legend; empty: not there
  int color = 0;        ///< of kSeriesColors, the first one 0
  double strength = 1;  ///< of the colour over the background, (0, 1]: for values in an order
  std::vector<double> x{}, y{};
  std::vector<double> low{}, high{};  ///< of bars; empty: there are none
  bool line = true;
  bool points = false;
  std::string tooltip{};  ///< of the line; empty: its name
};
inline constexpr int kSeriesColors = 8;

/// A place that is pointed out.
struct PlotMark {
  double x = 0, y = 0;
  int color = 0;
  std::string tooltip{};
};

struct PlotAxis {
  std::string title;
  bool log = false;
  std::optional<double> least{}, largest{};  ///< of what is shown; by default all
  bool whole = false;                        ///< numbers that count: ticks at whole ones only
};

/// What does not fit into the axes is drawn along their edge; values that are not finite, or not positive on a
/// logarithmic axis, are gaps.
struct Plot {
  std::string title;
  PlotAxis x, y;
  std::vector<Series> series{};
  std::vector<PlotMark> marks{};
};

/// An HTML figure with a legend and an SVG image in it. Lines of many points are thinned out, their extremes kept.
std::string plot_figure(const Plot& plot);

/// Rows of cells, coloured by their values from least to largest; what is not finite is left blank.
struct HeatMap {
  std::string title;
  std::string x_title, y_title;
  std::vector<std::string> x_labels{}, y_labels{};  ///< empty: numbers from 0
  std::vector<std::vector<double>> rows{};
};
std::string heat_map_figure(const HeatMap& map);

/// Places of ticks between two values: round numbers; on a logarithmic axis powers of ten, with 2 and 5 where there is
/// room.
std::vector<double> axis_ticks(double least, double largest, bool log);

/// As short as it can be told: 0.001, 1e-05, 2.5M is 2.5e+06.
std::string number_text(double value);

}  // namespace sluice
