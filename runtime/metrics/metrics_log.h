#pragma once

#include <cstdint>
#include <string>

#include "runtime/metrics/step_metrics.h"

namespace sluice {

/// One line of metrics.jsonl without its newline: a JSON object. Numbers read back to the same bits; NaN and
/// infinities, which JSON lacks, become null.
std::string metrics_json(const StepMetrics& metrics);

/// Drops every line of a metrics.jsonl from `first_step` on, and what is not a whole line, as a resumed run does.
/// Nothing happens when there is no such file. Throws Error naming file and line for a line that is not JSON with a
/// `step`.
void cut_metrics_log(const std::string& path, int64_t first_step);

}  // namespace sluice
