#pragma once

#include <string>
#include <string_view>

namespace sluice {

/// Unicode normalisation form C. `text` must be valid UTF-8.
std::string to_nfc(std::string_view text);

/// Whether the lead bytes alone show that `text` is in form C, as Latin text usually is.
bool is_plainly_nfc(std::string_view text);

}  // namespace sluice
