#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice {

/// The printable alphabet in which byte-level vocabularies are written [radford2019]: bytes 33-126, 161-172 and 174-255
/// stand for themselves as code points, the others for 256, 257, ... in order.
std::string bytes_to_printable(std::string_view bytes);

/// The inverse; nothing when a character is not of the alphabet.
std::optional<std::string> printable_to_bytes(std::string_view text);

}  // namespace sluice
