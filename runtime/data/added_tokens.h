#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/data/tokenizer_spec.h"

namespace sluice {

/// Finds added tokens in a text: leftmost first, the longest of those that begin at the same place.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  /// Calls text(piece) for what lies between added tokens (never empty) and token(id) for each of them, in order.
  template <class Text, class Token>
  void cut(std::string_view input, const Text& text, const Token& token) const {
    size_t begin = 0;
    for (size_t at = 0; !tokens_.empty() && at < input.size();) {
      const AddedToken* found = find_at(input, at);
      if (!found) {
        ++at;
        continue;
      }
      if (at > begin) text(input.substr(begin, at - begin));
      token(found->id);
      begin = at += found->text.size();
    }
    if (begin < input.size()) text(input.substr(begin));
  }

 private:
  const AddedToken* find_at(std::string_view input, size_t at) const {
    return first_byte_[static_cast<unsigned char>(input[at])] ? longest_at(input.substr(at)) : nullptr;
  }
  const AddedToken* longest_at(std::string_view input) const;

  std::vector<AddedToken> tokens_;  // longest first
  std::array<bool, 256> first_byte_{};
};

}  // namespace sluice
