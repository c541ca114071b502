#include "runtime/data/added_tokens.h"

#include <algorithm>
#include <utility>

namespace sluice {

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.text.size() > b.text.size(); });
  for (const AddedToken& token : tokens_) first_byte_[static_cast<unsigned char>(token.text[0])] = true;
}

const AddedToken* AddedTokenFinder::longest_at(std::string_view input) const {
  for (const AddedToken& token : tokens_) {
    if (input.starts_with(token.text)) return &token;
  }
  return nullptr;
}

}  // namespace sluice
