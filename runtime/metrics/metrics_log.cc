#include "runtime/metrics/metrics_log.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/files/json_depth.h"

namespace sluice {
namespace {

int64_t step_of(const std::string& line, const std::string& path, int line_number) {
  const nlohmann::json object = nlohmann::json::parse(line, depth_limit(path), false);
  ENSURE(object.is_object() && object.contains("step") && object["step"].is_number_integer(), path, ":", line_number,
         ": expected a JSON object with an integer `step`");
  return object["step"];
}

}  // namespace

std::string metrics_json(const StepMetrics& metrics) {
  nlohmann::ordered_json object;
  object["step"] = metrics.step;
  object["tokens"] = metrics.tokens;
  for_each_scalar(metrics, [&](const std::string& name, double value) { object[name] = value; });
  if (metrics.skipped) object["skipped"] = true;
  for_each_layer_array(metrics.layers,
                       [&](const char* name, const std::vector<double>& values) { object["layers"][name] = values; });
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void cut_metrics_log(const std::string& path, int64_t first_step) {
  if (!std::filesystem::exists(path)) return;
  std::ifstream in(path, std::ios::binary);
  ENSURE(in, path, ": cannot be read");
  uint64_t keep_bytes = 0;
  std::string line;
  for (int number = 1; std::getline(in, line) && !in.eof(); ++number) {
    if (step_of(line, path, number) >= first_step) break;
    keep_bytes += line.size() + 1;
  }
  std::error_code problem;
  std::filesystem::resize_file(path, keep_bytes, problem);
  ENSURE(!problem, path, ": cannot be cut back to before step ", first_step, ": ", problem.message());
}

}  // namespace sluice
