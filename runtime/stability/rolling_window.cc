#include "runtime/stability/rolling_window.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/error.h"

namespace sluice {

RollingWindow::RollingWindow(size_t size) : size_(size) {
  INVARIANT(size > 0, "a window of no values");
  ring_.reserve(size);
  sorted_.reserve(size);
}

void RollingWindow::add(double value) {
  INVARIANT(std::isfinite(value), "a window of a value that is not finite");
  if (ring_.size() < size_) {
    ring_.push_back(value);
  } else {
    sorted_.erase(std::lower_bound(sorted_.begin(), sorted_.end(), ring_[oldest_]));
    ring_[oldest_] = value;
    oldest_ = (oldest_ + 1) % size_;
  }
  sorted_.insert(std::upper_bound(sorted_.begin(), sorted_.end(), value), value);
}

void RollingWindow::clear() {
  ring_.clear();
  sorted_.clear();
  oldest_ = 0;
}

std::vector<double> RollingWindow::in_order() const {
  std::vector<double> values(ring_.begin() + static_cast<ptrdiff_t>(oldest_), ring_.end());
  values.insert(values.end(), ring_.begin(), ring_.begin() + static_cast<ptrdiff_t>(oldest_));
  return values;
}

double RollingWindow::quantile(double share) const {
  INVARIANT(!sorted_.empty(), "a quantile of no values");
  const double place = share * static_cast<double>(sorted_.size() - 1);
  const size_t below = static_cast<size_t>(place);
  if (below + 1 >= sorted_.size()) return sorted_.back();
  return sorted_[below] + (place - static_cast<double>(below)) * (sorted_[below + 1] - sorted_[below]);
}

}  // namespace sluice
