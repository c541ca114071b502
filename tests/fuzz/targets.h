#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

namespace sluice {

/// A parser of untrusted bytes: `parse` may throw what a parser throws, and must not do anything else.
struct FuzzTarget {
  std::string name;
  std::string seed;  ///< good input to start from
  std::function<void(const std::string& bytes)> parse;
};

inline std::ostream& operator<<(std::ostream& out, const FuzzTarget& target) { return out << target.name; }

/// One a file format or text that comes from outside.
std::vector<FuzzTarget> fuzz_targets();

/// Those of them that libFuzzer is built for: checkpoints and indices of data sets.
std::vector<FuzzTarget> file_targets();

/// Parses; true when the input was good or refused as the user's mistake, false when the parser blamed itself. Other
/// exceptions pass through.
bool survives(const FuzzTarget& target, const std::string& bytes);

}  // namespace sluice
