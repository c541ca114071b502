#pragma once

#include <string>
#include <vector>

#include "launch/commands.h"

namespace sluice {

struct PlanOptions {
  ConfigOptions config;
  int world = 1;
  std::string device = "cpu";
  bool json = false;
};
/// `sluice plan`: what a run takes of each rank, and which layouts of as many ranks would be faster. Needs neither MPI
/// nor data. Throws Error on a configuration that could not be trained by so many ranks.
void run_plan(const PlanOptions& options);

}  // namespace sluice
