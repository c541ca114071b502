#pragma once

#include <string>
#include <vector>

#include "configs/train.pb.h"

namespace sluice {

/// Reads a configuration in text format, behind the files that it includes, and applies overrides `path=value`
/// (model.gates[0].granularity=HEADWISE; an empty value clears a field; an index one past the end appends). Throws
/// Error with every problem found, one a line: syntax with line and column, unknown fields with the nearest known name.
TrainConfig load_config(const std::string& file, const std::vector<std::string>& overrides);

/// load_config for text that is at hand; `origin` stands for the file's name in messages.
TrainConfig parse_config(const std::string& text, const std::string& origin,
                         const std::vector<std::string>& overrides = {});

/// Text format of a configuration; parse_config reads it back.
std::string config_text(const TrainConfig& config);

}  // namespace sluice
