#include "launch/analysis/plot.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "launch/analysis/page.h"

namespace sluice {
namespace {

// Of the image, in its own units.
constexpr double kWidth = 640, kHeight = 320;
constexpr double kLeft = 70, kRight = 14, kTop = 10, kBottom = 44;

/// From a value to a place.
class Scale {
 public:
  Scale(double least, double largest, bool log, double from, double to) : log_(log), from_(from), to_(to) {
    low_ = at(least);
    high_ = at(largest);
  }
  bool shows(double value) const { return std::isfinite(value) && (!log_ || value > 0); }
  /// Within the axis.
  double place(double value) const {
    const double share = high_ > low_ ? (at(value) - low_) / (high_ - low_) : 0.5;
    return from_ + std::clamp(share, 0.0, 1.0) * (to_ - from_);
  }

 private:
  double at(double value) const { return log_ ? std::log10(value) : value; }

  const bool log_;
  const double from_, to_;
  double low_, high_;
};

struct Range {
  double least = std::numeric_limits<double>::infinity(), largest = -std::numeric_limits<double>::infinity();

  void see(double value, bool log) {
    if (!std::isfinite(value) || (log && value <= 0)) return;
    least = std::min(least, value);
    largest = std::max(largest, value);
  }
};

/// What an axis shows, with some room around it.
Range shown(const PlotAxis& axis, Range range, double room) {
  if (range.least > range.largest) range = {axis.log ? 1.0 : 0.0, axis.log ? 10.0 : 1.0};
  if (axis.log) {
    const double factor = range.least == range.largest ? 2 : std::pow(range.largest / range.least, room);
    range = {range.least / factor, range.largest * factor};
  } else {
    const double width = range.largest - range.least;
    const double more = width > 0 ? width * room : std::max(std::fabs(range.least) * 0.1, 0.5);
    // Axes of what cannot be negative begin at zero.
    const bool above = range.least >= 0;
    range = {range.least - more, range.largest + more};
    if (above) range.least = std::max(range.least, 0.0);
  }
  if (axis.least) range.least = *axis.least;
  if (axis.largest) range.largest = *axis.largest;
  return range;
}

std::string color_style(int color, double strength) {
  const int slot = color % kSeriesColors + 1;
  if (strength >= 1) return fmt::format("--c:var(--s{})", slot);
  return fmt::format("--c:color-mix(in oklab,var(--s{}) {:.0f}%,var(--bg))", slot, 100 * strength);
}

struct Point {
  double x, y;
};

/// The places of a line, of which no more are kept than can be told apart: in each piece the first, the last and the
/// extremes. A gap is a place that is not a number.
std::vector<Point> thinned(const std::vector<Point>& all) {
  constexpr size_t kPieces = 400;
  if (all.size() <= 5 * kPieces) return all;
  std::vector<Point> kept;
  for (size_t piece = 0; piece < kPieces; ++piece) {
    const size_t begin = piece * all.size() / kPieces, end = (piece + 1) * all.size() / kPieces;
    std::optional<size_t> low, high, gap;
    for (size_t i = begin; i < end; ++i) {
      if (!std::isfinite(all[i].y)) {
        gap = i;
        continue;
      }
      if (!low || all[i].y < all[*low].y) low = i;
      if (!high || all[i].y > all[*high].y) high = i;
    }
    std::vector<size_t> places = {begin, end - 1};
    for (const auto& place : {low, high, gap}) {
      if (place) places.push_back(*place);
    }
    std::sort(places.begin(), places.end());
    for (const size_t i : places) kept.push_back(all[i]);
  }
  return kept;
}

std::string title_element(const std::string& text) {
  return text.empty() ? "" : "<title>" + html_escape(text) + "</title>";
}

std::string path_of(const std::vector<Point>& points) {
  std::string path;
  bool down = false;
  for (const Point& point : points) {
    if (!std::isfinite(point.y)) {
      down = false;
      continue;
    }
    path += fmt::format("{}{:.1f} {:.1f}", down ? "L" : "M", point.x, point.y);
    down = true;
  }
  return path;
}

std::string draw(const Series& series, const Scale& x, const Scale& y) {
  std::string out = fmt::format("<g style=\"{}\">", color_style(series.color, series.strength));
  std::vector<Point> places;
  for (size_t i = 0; i < series.x.size(); ++i) {
    const bool there = x.shows(series.x[i]) && y.shows(series.y[i]);
    const double gap = std::numeric_limits<double>::quiet_NaN();
    places.push_back({there ? x.place(series.x[i]) : gap, there ? y.place(series.y[i]) : gap});
    if (!there || series.low.empty() || !y.shows(series.low[i]) || !y.shows(series.high[i])) continue;
    out += fmt::format("<path class=\"bar\" d=\"M{0:.1f} {1:.1f}V{2:.1f}\"/>", places.back().x, y.place(series.low[i]),
                       y.place(series.high[i]));
  }
  const std::string& told = series.tooltip.empty() ? series.name : series.tooltip;
  if (series.line) {
    out += fmt::format("<path class=\"line\" d=\"{}\">{}</path>", path_of(thinned(places)), title_element(told));
  }
  for (size_t i = 0; series.points && i < places.size(); ++i) {
    if (!std::isfinite(places[i].y)) continue;
    out +=
        fmt::format("<circle class=\"point\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\">{}</circle>", places[i].x, places[i].y,
                    title_element(fmt::format("{}{}{}: {}", told, told.empty() ? "" : ", ", number_text(series.x[i]),
                                              number_text(series.y[i]))));
  }
  return out + "</g>\n";
}

std::vector<double> ticks_of(const PlotAxis& axis, const Range& range) {
  std::vector<double> ticks = axis_ticks(range.least, range.largest, axis.log);
  if (axis.whole) std::erase_if(ticks, [](double tick) { return std::fabs(tick - std::round(tick)) > 1e-9; });
  return ticks;
}

std::string draw_axes(const Plot& plot, const Range& xs, const Range& ys, const Scale& x, const Scale& y) {
  const double right = kWidth - kRight, bottom = kHeight - kBottom;
  std::string out;
  for (const double tick : ticks_of(plot.y, ys)) {
    const double at = y.place(tick);
    out +=
        fmt::format("<path class=\"grid\" d=\"M{} {:.1f}H{}\"/><text class=\"end\" x=\"{}\" y=\"{:.1f}\">{}</text>\n",
                    kLeft, at, right, kLeft - 6, at + 4, number_text(tick));
  }
  for (const double tick : ticks_of(plot.x, xs)) {
    const double at = x.place(tick);
    out += fmt::format(
        "<path class=\"axis\" d=\"M{0:.1f} {1}v4\"/><text class=\"middle\" x=\"{0:.1f}\" y=\"{2}\">{3}</text>\n", at,
        bottom, bottom + 17, number_text(tick));
  }
  out += fmt::format("<path class=\"axis\" d=\"M{} {}H{}\"/>\n", kLeft, bottom, right);
  out += fmt::format("<text class=\"middle\" x=\"{}\" y=\"{}\">{}</text>\n", (kLeft + right) / 2, kHeight - 6,
                     html_escape(plot.x.title));
  out += fmt::format("<text class=\"middle\" transform=\"translate(14 {}) rotate(-90)\">{}</text>\n",
                     (kTop + bottom) / 2, html_escape(plot.y.title));
  return out;
}

std::string legend(const Plot& plot) {
  std::string out;
  int named = 0;
  for (const Series& series : plot.series) {
    if (series.name.empty()) continue;
    ++named;
    out += fmt::format("<span style=\"{}\">{}</span>\n", color_style(series.color, series.strength),
                       html_escape(series.name));
  }
  return named < 2 ? "" : "<div class=\"legend\">\n" + out + "</div>\n";
}

std::string figure(const std::string& title, const std::string& above, double height, const std::string& image) {
  const std::string name = html_escape(title);
  return fmt::format(
      "<figure>\n<figcaption>{}</figcaption>\n{}<svg viewBox=\"0 0 {} {:.0f}\" role=\"img\" aria-label=\"{}\">\n{}"
      "</svg>\n</figure>\n",
      name, above, kWidth, height, name, image);
}

}  // namespace

std::string number_text(double value) {
  const std::string text = fmt::format("{:.4g}", value);
  return text == "-0" ? "0" : text;
}

std::vector<double> axis_ticks(double least, double largest, bool log) {
  std::vector<double> ticks;
  if (!(least < largest) || !std::isfinite(largest - least)) return {least};
  if (log) {
    const double decades = std::log10(largest) - std::log10(least);
    const int every = std::max(1, static_cast<int>(decades / 7));
    for (double power = std::floor(std::log10(least)); power <= std::log10(largest); power += every) {
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double tick = digit * std::pow(10, power);
        if (tick >= least && tick <= largest && (digit == 1 || decades < 2.5)) ticks.push_back(tick);
      }
    }
    return ticks;
  }
  constexpr double kAbout = 5;
  const double raw = (largest - least) / kAbout, unit = std::pow(10, std::floor(std::log10(raw)));
  const double step = unit * (raw / unit < 1.5 ? 1 : raw / unit < 3.5 ? 2 : raw / unit < 7.5 ? 5 : 10);
  const double first = std::ceil(least / step);
  constexpr int kMost = 12;
  for (int i = 0; i < kMost && (first + i) * step <= largest; ++i) ticks.push_back((first + i) * step);
  return ticks;
}

std::string plot_figure(const Plot& plot) {
  Range xs, ys;
  for (const Series& series : plot.series) {
    for (const double v : series.x) xs.see(v, plot.x.log);
    for (const auto* values : {&series.y, &series.low, &series.high}) {
      for (const double v : *values) ys.see(plot.y.largest ? std::min(v, *plot.y.largest) : v, plot.y.log);
    }
  }
  xs = shown(plot.x, xs, plot.x.log ? 0.04 : 0);
  ys = shown(plot.y, ys, 0.06);
  const Scale x(xs.least, xs.largest, plot.x.log, kLeft, kWidth - kRight);
  const Scale y(ys.least, ys.largest, plot.y.log, kHeight - kBottom, kTop);
  std::string image = draw_axes(plot, xs, ys, x, y);
  for (const Series& series : plot.series) image += draw(series, x, y);
  for (const PlotMark& mark : plot.marks) {
    if (!x.shows(mark.x)) continue;
    image += fmt::format("<circle class=\"mark\" style=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"6\">{}</circle>\n",
                         color_style(mark.color, 1), x.place(mark.x), y.shows(mark.y) ? y.place(mark.y) : kTop,
                         title_element(mark.tooltip));
  }
  return figure(plot.title, legend(plot), kHeight, image);
}

std::string heat_map_figure(const HeatMap& map) {
  Range range;
  size_t columns = 0;
  for (const auto& row : map.rows) {
    columns = std::max(columns, row.size());
    for (const double v : row) range.see(v, false);
  }
  if (columns == 0 || range.least > range.largest) return "";
  constexpr double kTallest = 22, kRoom = 320;
  const double height = std::min(kTallest, kRoom / static_cast<double>(map.rows.size()));
  const double width = (kWidth - kLeft - kRight) / static_cast<double>(columns);
  const double bottom = kTop + height * static_cast<double>(map.rows.size());
  const auto label = [](const std::vector<std::string>& labels, size_t i) {
    return i < labels.size() ? labels[i] : std::to_string(i);
  };
  std::string image;
  constexpr size_t kMostTooltips = 1500;
  const bool tells = map.rows.size() * columns <= kMostTooltips;
  for (size_t r = 0; r < map.rows.size(); ++r) {
    const double top = kTop + height * static_cast<double>(r);
    for (size_t c = 0; c < map.rows[r].size(); ++c) {
      const double value = map.rows[r][c];
      if (!std::isfinite(value)) continue;
      const double share = range.largest > range.least ? (value - range.least) / (range.largest - range.least) : 0.5;
      image += fmt::format(
          "<rect class=\"cell\" fill-opacity=\"{:.2f}\" x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\">"
          "{}</rect>",
          0.04 + 0.96 * share, kLeft + width * static_cast<double>(c), top, std::max(width - 0.5, width * 0.8),
          std::max(height - 0.5, height * 0.8),
          title_element(!tells ? ""
                               : fmt::format("{} {}, {} {}: {}", map.y_title, label(map.y_labels, r), map.x_title,
                                             label(map.x_labels, c), number_text(value))));
    }
    const size_t every_row = 1 + map.rows.size() / 24;
    if (r % every_row == 0) {
      image += fmt::format("<text class=\"end\" x=\"{}\" y=\"{:.1f}\">{}</text>\n", kLeft - 6, top + height / 2 + 4,
                           html_escape(label(map.y_labels, r)));
    }
  }
  const size_t every = 1 + columns / 12;
  for (size_t c = 0; c < columns; c += every) {
    image +=
        fmt::format("<text class=\"middle\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
                    kLeft + width * (static_cast<double>(c) + 0.5), bottom + 15, html_escape(label(map.x_labels, c)));
  }
  image += fmt::format("<text class=\"middle\" x=\"{}\" y=\"{:.1f}\">{}</text>\n", (kLeft + kWidth - kRight) / 2,
                       bottom + 33, html_escape(map.x_title));
  image += fmt::format("<text class=\"middle\" transform=\"translate(14 {:.1f}) rotate(-90)\">{}</text>\n",
                       (kTop + bottom) / 2, html_escape(map.y_title));
  const std::string range_text = fmt::format("<div class=\"legend\">from {} (faint) to {} (full)</div>\n",
                                             number_text(range.least), number_text(range.largest));
  return figure(map.title, range_text, bottom + 40, image);
}

}  // namespace sluice
