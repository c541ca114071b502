#pragma once

#include "configs/train.pb.h"
#include "runtime/config_report.h"

namespace sluice {

/// Reports which sizes, ranges and combinations of the model cannot be.
void check_model(ConfigReport& report, const ModelConfig& model);

}  // namespace sluice
