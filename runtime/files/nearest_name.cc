#include "runtime/files/nearest_name.h"

#include <algorithm>

namespace sluice {
namespace {

int edit_distance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest_name(const std::string& name, const std::vector<std::string>& known, int most_changes) {
  std::string best;
  for (const std::string& candidate : known) {
    const int changes = edit_distance(name, candidate);
    if (changes <= most_changes) most_changes = changes - 1, best = candidate;
  }
  return best;
}

}  // namespace sluice
