#pragma once

#include <cstddef>
#include <string_view>

namespace sluice {

/// Length of the longest prefix that is valid UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
size_t valid_utf8_prefix(std::string_view text);

}  // namespace sluice
