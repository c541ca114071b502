#include "runtime/stability/curve_file.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <string_view>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/files/input_file.h"
#include "runtime/files/json_depth.h"

namespace sluice {
namespace {

/// Of a line, without the end of a line of Windows.
std::vector<std::string_view> fields_of(std::string_view line) {
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  std::vector<std::string_view> fields;
  for (size_t comma; (comma = line.find(',')) != std::string_view::npos; line.remove_prefix(comma + 1)) {
    fields.push_back(line.substr(0, comma));
  }
  fields.push_back(line);
  return fields;
}

template <class T>
T number(std::string_view text, const std::string& where, const char* column) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  ENSURE(error == std::errc() && end == text.data() + text.size(), where, ": ", column, ": expected a number, got \"",
         text.substr(0, 60), "\"");
  return value;
}

/// Lines of a table behind its first, which names the columns.
class TableReader {
 public:
  TableReader(std::string_view header, const std::string& path)
      : step_(column(header, "step", path)), loss_(column(header, "lm_loss", path)) {}

  CurvePoint point(std::string_view line, const std::string& where) const {
    const std::vector<std::string_view> fields = fields_of(line);
    ENSURE(fields.size() > std::max(step_, loss_), where, ": expected ", std::max(step_, loss_) + 1, " columns, got ",
           fields.size());
    return {number<int64_t>(fields[step_], where, "step"), number<double>(fields[loss_], where, "lm_loss")};
  }

 private:
  static size_t column(std::string_view header, const char* name, const std::string& path) {
    const std::vector<std::string_view> names = fields_of(header);
    const auto found = std::find(names.begin(), names.end(), name);
    ENSURE(found != names.end(), path, ":1: no column ", name, "; expected a first line such as step,lm_loss");
    return static_cast<size_t>(found - names.begin());
  }

  size_t step_, loss_;
};

CurvePoint point_of_json(std::string_view line, const std::string& where) {
  const nlohmann::json object = nlohmann::json::parse(line, depth_limit(where), false);
  const auto step = object.is_object() ? object.find("step") : object.end();
  const auto loss = object.is_object() ? object.find("lm_loss") : object.end();
  ENSURE(object.is_object() && step != object.end() && step->is_number_integer() && loss != object.end() &&
             (loss->is_number() || loss->is_null()),
         where, ": expected a JSON object with a whole number `step` and a number `lm_loss`");
  return {*step, loss->is_null() ? std::numeric_limits<double>::quiet_NaN() : loss->get<double>()};
}

/// Calls visit(line, number) of each line, its number from 1, but for empty ones at the end.
template <class Visit>
void for_each_line(std::string_view text, const Visit& visit) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  for (int64_t line = 1; !text.empty(); ++line) {
    const size_t end = text.find('\n');
    visit(text.substr(0, end), line);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

}  // namespace

std::vector<CurvePoint> read_curve(const std::string& path) {
  const std::string text = read_text(path);
  const bool json = text.starts_with("{");
  std::vector<CurvePoint> points;
  std::optional<TableReader> table;
  for_each_line(text, [&](std::string_view line, int64_t number) {
    const std::string where = concat(path, ":", number);
    if (!json && !table) {
      table.emplace(line, path);
      return;
    }
    const CurvePoint point = json ? point_of_json(line, where) : table->point(line, where);
    ENSURE(point.step >= 0, where, ": step ", point.step, " must not be negative");
    ENSURE(points.empty() || point.step > points.back().step, where, ": step ", point.step, " follows step ",
           points.back().step, "; steps must ascend");
    points.push_back(point);
  });
  ENSURE(!points.empty(), path, ": has no losses");
  return points;
}

}  // namespace sluice
