#pragma once

#include <string>

namespace sluice {

/// The root of the source tree, for tests that read files of it.
inline std::string source_dir() { return SLUICE_SOURCE_DIR; }

}  // namespace sluice
