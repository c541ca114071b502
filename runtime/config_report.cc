#include "runtime/config_report.h"

namespace sluice {
namespace {

// Elements of one kind; several kinds together, in bytes, are within an int64.
constexpr int64_t kMostElements = int64_t{1} << 56;

}  // namespace

void ConfigReport::product(const char* of, std::initializer_list<Factor> factors) {
  int64_t product = 1;
  bool fits = true;
  std::string fields;
  for (const Factor& factor : factors) {
    if (factor.value < 1) return;
    fits = fits && !__builtin_mul_overflow(product, factor.value, &product) && product <= kMostElements;
    fields += concat(fields.empty() ? "" : " * ", factor.field, "=", factor.value);
  }
  check(fits, "too many ", of, ", ", fields, " is more than ", kMostElements);
}

}  // namespace sluice
