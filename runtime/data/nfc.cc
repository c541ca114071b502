#include "runtime/data/nfc.h"

#include <algorithm>
#include <cstdlib>

#include <utf8proc.h>

#include "kernels/core/error.h"

namespace sluice {

std::string to_nfc(std::string_view text) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  INVARIANT(size >= 0, "utf8proc_map: ", utf8proc_errmsg(size));
  std::string normal(reinterpret_cast<const char*>(result), static_cast<size_t>(size));
  std::free(result);
  return normal;
}

bool is_plainly_nfc(std::string_view text) {
  // Characters below U+0300 do not combine; U+0300 begins with byte 0xCC.
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
}

}  // namespace sluice
