#pragma once

#include <string>
#include <vector>

namespace sluice {

/// The name that takes the fewest changes of a letter to become, if `most_changes` are enough; else empty.
std::string nearest_name(const std::string& name, const std::vector<std::string>& known, int most_changes);

}  // namespace sluice
