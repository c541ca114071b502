#pragma once

#include "configs/train.pb.h"
#include "runtime/config_report.h"

namespace sluice {

/// Reports which sizes, ranges and combinations of the model cannot be. Two ways to say the same, such as a constant
/// that heads share or logits averaged before IDENTITY, are both allowed.
void check_model(ConfigReport& report, const ModelConfig& model);

}  // namespace sluice
