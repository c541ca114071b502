#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/core/error.h"

namespace sluice {

/// Problems of a configuration found so far, one a line.
class ConfigReport {
 public:
  // Above these no product of two sizes can overflow an int64.
  static constexpr int64_t kLargestSize = int64_t{1} << 31;

  template <class... Parts>
  bool check(bool ok, const Parts&... parts) {
    if (!ok) lines_ += (lines_.empty() ? "" : "\n") + concat(parts...);
    return ok;
  }
  /// What `body` throws is a problem like the others.
  template <class Body>
  void collect(const Body& body) {
    try {
      body();
    } catch (const Error& error) {
      check(false, error.what());
    }
  }

  /// That a field is there and between 1 and `most`.
  bool positive(const std::string& field, bool present, int64_t value, int64_t most = kLargestSize) {
    if (!check(present, field, " is missing")) return false;
    return check(value >= 1 && value <= most, field, "=", value, " must be between 1 and ", most);
  }
  void not_negative(const char* field, double value) {
    check(std::isfinite(value) && value >= 0, field, "=", value, " must be a finite number, not negative");
  }
  void above_zero(const char* field, double value) {
    check(std::isfinite(value) && value > 0, field, "=", value, " must be a finite positive number");
  }
  void divides(const char* field, int64_t value, const char* by_field, int64_t by) {
    check(by == 0 || value % by == 0, field, "=", value, " is not divisible by ", by_field, "=", by);
  }

  struct Factor {
    const char* field;
    int64_t value;
  };
  /// That a product of sizes stays far below what an int64 holds.
  void product(const char* of, std::initializer_list<Factor> factors);

  bool empty() const { return lines_.empty(); }
  /// Throws Error with all problems, when there are any.
  void finish() const { ENSURE(lines_.empty(), lines_); }

 private:
  std::string lines_;
};

}  // namespace sluice
