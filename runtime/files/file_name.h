#pragma once

#include <string>

namespace sluice {

/// Whether a name that a file gives stands for a file in the same folder: no path may lead out of it.
inline bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

}  // namespace sluice
