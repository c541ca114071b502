#pragma once

#include <cstdint>
#include <string>

namespace sluice {

/// Appends {"step": 7, "event": "skip", "reason": "..."} to RUN/audit.jsonl, which tells every decision that a run took
/// without being asked; there is no such file before the first. Throws Error naming the file when it cannot be written.
void append_audit(const std::string& run_dir, int64_t step, const std::string& event, const std::string& reason);

}  // namespace sluice
