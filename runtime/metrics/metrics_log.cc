#include "runtime/metrics/metrics_log.h"

#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/files/append_file.h"
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

StepMetrics parse_metrics(const std::string& line, const std::string& origin) try {
  const nlohmann::json object = nlohmann::json::parse(line, depth_limit(origin));
  const auto number = [](const nlohmann::json& value) {
    return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
  };
  const auto scalar = [&](const char* name, auto& to) {
    if (object.contains(name)) to = number(object[name]);
  };
  StepMetrics metrics;
  const auto check = [&](bool good) { ENSURE(good, origin, ": expected a line of metrics.jsonl"); };
  const auto whole = [&](const char* name) {
    check(object.is_object() && object.contains(name) && object[name].is_number_integer());
    return object[name].get<int64_t>();
  };
  metrics.step = whole("step");
  metrics.tokens = whole("tokens");
  metrics.skipped = object.value("skipped", false);
  scalar("loss", metrics.loss);
  scalar("lm_loss", metrics.lm_loss);
  scalar("balance_loss", metrics.balance_loss);
  scalar("z_loss", metrics.z_loss);
  scalar("grad_norm", metrics.grad_norm);
  scalar("lr", metrics.lr);
  scalar("step_ms", metrics.step_ms);
  scalar("tokens_per_s", metrics.tokens_per_s);
  scalar("mfu", metrics.mfu);
  scalar("communication_ms", metrics.communication_ms);
  for (const auto& [name, value] : object.items()) {
    if (name.starts_with("eval_loss.")) metrics.eval_loss[name.substr(name.find('.') + 1)] = number(value);
  }
  LayerMetrics& layers = metrics.layers;
  const std::map<std::string, std::vector<double>*> known = {
      {"gate_mean", &layers.gate_mean},
      {"first_token_attention", &layers.first_token_attention},
      {"max_activation", &layers.max_activation},
      {"expert_load_max_over_mean", &layers.expert_load_max_over_mean},
      {"router_entropy", &layers.router_entropy},
      {"grad_norm", &layers.grad_norm},
      {"update_rms", &layers.update_rms},
      {"attention_logit_max", &layers.attention_logit_max},
      {"second_moment_staleness", &layers.second_moment_staleness}};
  const nlohmann::json arrays = object.value("layers", nlohmann::json::object());
  check(arrays.is_object());
  for (const auto& [name, values] : arrays.items()) {
    check(values.is_array());
    const auto at = known.find(name);
    std::vector<double>& to = at == known.end() ? layers.gates[name] : *at->second;
    for (const nlohmann::json& value : values) to.push_back(number(value));
  }
  return metrics;
} catch (const nlohmann::json::exception&) {
  throw Error(origin + ": expected a line of metrics.jsonl", __FILE__, __LINE__);
}

void cut_metrics_log(const std::string& path, int64_t first_step, const std::string& removed_path) {
  std::error_code problem;
  if (!std::filesystem::exists(path, problem) && !problem) return;
  std::ifstream in(path, std::ios::binary);
  ENSURE(in, path, ": cannot be read");
  uint64_t keep_bytes = 0;
  std::string line, removed;
  for (int number = 1; std::getline(in, line) && !in.eof(); ++number) {
    const bool drop = !removed.empty() || step_of(line, path, number) >= first_step;
    if (drop && removed_path.empty()) break;
    if (drop) {
      removed += line + "\n";
    } else {
      keep_bytes += line.size() + 1;
    }
  }
  std::exception_ptr not_kept;
  try {
    if (!removed.empty()) AppendFile(removed_path).append(removed);
  } catch (const Error&) {
    not_kept = std::current_exception();
  }
  std::filesystem::resize_file(path, keep_bytes, problem);
  ENSURE(!problem, path, ": cannot be cut back to before step ", first_step, ": ", problem.message());
  if (not_kept) std::rethrow_exception(not_kept);
}

}  // namespace sluice
