#pragma once

#include <string>
#include <vector>

namespace sluice {

struct ReportOptions {
  std::vector<std::string> runs;  ///< folders of runs, or of folders of them
  std::string out;                ///< HTML file to write
};
/// `sluice report`: a page with what the runs' folders tell. Throws Error when a folder has no runs, or the file cannot
/// be written.
void run_report(const ReportOptions& options);

}  // namespace sluice
