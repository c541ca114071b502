#include "runtime/metrics/audit_log.h"

#include <nlohmann/json.hpp>

#include "runtime/files/append_file.h"

namespace sluice {

void append_audit(const std::string& run_dir, int64_t step, const std::string& event, const std::string& reason) {
  const nlohmann::ordered_json line = {{"step", step}, {"event", event}, {"reason", reason}};
  AppendFile(run_dir + "/audit.jsonl")
      .append(line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

}  // namespace sluice
