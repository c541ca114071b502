#pragma once

#include <string>
#include <vector>

#include "runtime/stability/episodes.h"

namespace sluice {

/// Reads a logged loss, steps ascending: a table with commas between its columns, of which its first line names one
/// `step` and one `lm_loss`, or a run's metrics.jsonl. A loss of `nan` or `inf` (in JSON null) is one. Throws Error
/// naming the file, the line and what is wrong.
std::vector<CurvePoint> read_curve(const std::string& path);

}  // namespace sluice
