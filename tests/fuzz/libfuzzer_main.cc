#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/targets.h"

namespace sluice {
namespace {

const FuzzTarget& chosen_target() {
  static const std::vector<FuzzTarget> targets = file_targets();
  const auto target = std::ranges::find(targets, FUZZ_TARGET, &FuzzTarget::name);
  if (target == targets.end()) std::abort();
  return *target;
}

}  // namespace
}  // namespace sluice

/// What libFuzzer calls: a parser that blames itself for an input has a defect, whatever else it throws too.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const sluice::FuzzTarget& target = sluice::chosen_target();
  if (!sluice::survives(target, std::string(reinterpret_cast<const char*>(data), size))) {
    std::fprintf(stderr, "%s: the parser blamed itself\n", FUZZ_TARGET);
    std::abort();
  }
  return 0;
}
