#pragma once

#include <string>
#include <vector>

namespace sluice {

struct SpikesOptions {
  std::string curve;
  std::vector<std::string> overrides;  ///< of `stability`
  bool json = false;
};
/// `sluice spikes`: the episodes that the detector of training finds in a logged loss. Throws Error when the curve
/// cannot be read.
void run_spikes(const SpikesOptions& options);

}  // namespace sluice
