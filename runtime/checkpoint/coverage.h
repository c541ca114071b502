#pragma once

#include <string>
#include <vector>

#include "configs/manifest.pb.h"
#include "parallel/parameter_record.h"

namespace sluice {

/// Whether the pieces of a manifest are the whole state of a model, every element once: weights of each of its
/// parameters, both moments of all of them or of none, and nothing else. Returns a line a problem, which names the
/// parameter and the kind. The shards are not looked at.
std::vector<std::string> coverage_problems(const Manifest& manifest, const std::vector<ParameterRecord>& model);

}  // namespace sluice
