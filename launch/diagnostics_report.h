#pragma once

#include <nlohmann/json_fwd.hpp>

#include "runtime/diagnostics.h"

namespace sluice {

/// Tables of the diagnostics of one data set, to standard output.
void print_diagnostics(const ModelDiagnostics& diagnostics);

/// The same, and all histograms, for machines.
nlohmann::ordered_json diagnostics_json(const ModelDiagnostics& diagnostics);

}  // namespace sluice
