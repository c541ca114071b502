#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <string_view>

#include "tests/fuzz/targets.h"

// fuzz_one TARGET: parses standard input and aborts when the parser fails otherwise than by refusing it.
// fuzz_one TARGET --seed: prints good input to start from.
int main(int argc, char** argv) {
  const std::vector<sluice::FuzzTarget> targets = sluice::fuzz_targets();
  const std::string_view name = argc > 1 ? argv[1] : "";
  const auto target = std::find_if(targets.begin(), targets.end(), [&](const auto& t) { return t.name == name; });
  if (target == targets.end()) {
    std::fprintf(stderr, "error: expected a target, one of:");
    for (const sluice::FuzzTarget& t : targets) std::fprintf(stderr, " %s", t.name.c_str());
    std::fprintf(stderr, "\n");
    return 1;
  }
  if (argc > 2 && std::string_view(argv[2]) == "--seed") {
    std::cout << target->seed;
    return 0;
  }
  const std::string bytes{std::istreambuf_iterator<char>(std::cin), {}};
  if (!sluice::survives(*target, bytes)) std::abort();
}
