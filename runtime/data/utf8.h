#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice {

/// Length of the longest prefix that is valid UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
size_t valid_utf8_prefix(std::string_view text);

/// Unicode normalisation form C. `text` must be valid UTF-8.
std::string to_nfc(std::string_view text);

/// Whether the lead bytes alone show that `text` is in form C, as Latin text usually is.
bool is_plainly_nfc(std::string_view text);

}  // namespace sluice
