#pragma once

#include <cstddef>
#include <vector>

namespace sluice {

/// The last values of a signal and their quantiles. Allocates when it is made only; adding a value costs a move of as
/// many as the window holds.
class RollingWindow {
 public:
  explicit RollingWindow(size_t size);

  /// The oldest value leaves a full window. `value` is finite.
  void add(double value);
  void clear();
  /// All values, the oldest first.
  std::vector<double> in_order() const;
  size_t count() const { return sorted_.size(); }
  /// The value that a share of the values lies below, interpolated; of at least one value.
  double quantile(double share) const;
  double median() const { return quantile(0.5); }

 private:
  size_t size_, oldest_ = 0;
  std::vector<double> ring_, sorted_;
};

}  // namespace sluice
