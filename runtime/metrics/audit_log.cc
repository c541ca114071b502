#include "runtime/metrics/audit_log.h"

#include <filesystem>

#include <glog/logging.h>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/files/append_file.h"

namespace sluice {

bool append_audit(const std::string& run_dir, int64_t step, const std::string& event, const std::string& reason) {
  const nlohmann::ordered_json line = {{"step", step}, {"event", event}, {"reason", reason}};
  const std::string text = line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  const std::string path = run_dir + "/audit.jsonl";
  std::error_code error;
  const bool is_there = std::filesystem::exists(path, error);
  const auto bytes = is_there ? std::filesystem::file_size(path, error) : 0;
  try {
    AppendFile file(path);
    file.append(text + "\n");
    file.sync();
    return true;
  } catch (const Error& problem) {
    LOG(WARNING) << problem.what() << "; it lacks " << text;
  }
  if (!error) std::filesystem::resize_file(path, bytes, error);
  return false;
}

}  // namespace sluice
