#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace sluice::reference {

/// Slots in the order of their experts; a stable sort keeps token and slot order within one.
inline std::vector<int32_t> slots_by_expert(const std::vector<int32_t>& experts_of_slots) {
  std::vector<int32_t> slots(experts_of_slots.size());
  std::iota(slots.begin(), slots.end(), 0);
  std::stable_sort(slots.begin(), slots.end(), [&](int32_t a, int32_t b) {
    return experts_of_slots[static_cast<size_t>(a)] < experts_of_slots[static_cast<size_t>(b)];
  });
  return slots;
}

/// Row r is the token of slot slots[r].
template <class T>
std::vector<T> gather(const std::vector<T>& x, const std::vector<int32_t>& slots, size_t top_k, size_t hidden) {
  std::vector<T> rows(slots.size() * hidden);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i] = x[static_cast<size_t>(slots[i / hidden]) / top_k * hidden + i % hidden];
  }
  return rows;
}

/// Adds every row to its token in y.
template <class T>
std::vector<T> combine(std::vector<T> y, const std::vector<T>& rows, const std::vector<int32_t>& slots, size_t top_k,
                       size_t hidden) {
  for (size_t i = 0; i < rows.size(); ++i) {
    y[static_cast<size_t>(slots[i / hidden]) / top_k * hidden + i % hidden] += rows[i];
  }
  return y;
}

}  // namespace sluice::reference
