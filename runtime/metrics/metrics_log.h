#pragma once

#include <cstdint>
#include <string>

#include "runtime/metrics/step_metrics.h"

namespace sluice {

/// One line of metrics.jsonl without its newline: a JSON object. Numbers read back to the same bits; NaN and
/// infinities, which JSON lacks, become null.
std::string metrics_json(const StepMetrics& metrics);

/// What metrics_json() has made a line of, but for histograms; null becomes NaN. Throws Error naming `origin` for text
/// that is no such line.
StepMetrics parse_metrics(const std::string& line, const std::string& origin);

/// Drops every line of a metrics.jsonl from `first_step` on, and what is not a whole line, as a resumed run does.
/// Nothing happens when there is no such file. With `removed_path` whole lines that are dropped are appended there, or
/// lost when that fails. Throws Error naming file and line for a line that is not JSON with a `step`.
void cut_metrics_log(const std::string& path, int64_t first_step, const std::string& removed_path = "");

}  // namespace sluice
