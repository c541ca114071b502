#pragma once

#include <cstdint>
#include <string>

namespace sluice {

/// Appends {"step": 7, "event": "skip", "reason": "..."} to RUN/audit.jsonl, which tells every decision that a run took
/// without being asked; there is no such file before the first. Returns whether the line is on disk; one that
/// could not be written leaves no part of it and is warned of: the run goes on.
bool append_audit(const std::string& run_dir, int64_t step, const std::string& event, const std::string& reason);

}  // namespace sluice
