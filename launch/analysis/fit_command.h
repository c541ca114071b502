#pragma once

#include <string>
#include <vector>

namespace sluice {

struct FitOptions {
  std::vector<std::string> runs;       ///< folders of runs, or of folders of them
  std::vector<std::string> overrides;  ///< of FitConfig
  bool json = false;
};
/// `sluice fit`: a scaling law of finished runs. Throws Error when there are too few, or one cannot be read.
void run_fit(const FitOptions& options);

}  // namespace sluice
