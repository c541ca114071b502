#include "runtime/tasks/prompt.h"

#include <algorithm>

namespace sluice {
namespace {

constexpr int64_t kFewestTokensANeedle = 16;  // of the text around it

void append(const Piece& piece, std::vector<int32_t>& tokens) {
  tokens.insert(tokens.end(), piece.begin(), piece.end());
}

}  // namespace

Prompt::Prompt(PieceEncoder& encode, const PromptParts& parts, int64_t length) {
  constexpr int64_t kToSpare = 8;
  sample_.prompt = encode(parts.introduction);
  sample_.answers = parts.answers;
  question_ = encode(parts.question);
  for (const std::string& answer : parts.answers) sample_.new_tokens += 2 * size(encode(" " + answer + ","));
  sample_.new_tokens += kToSpare;
  room_ = length - size(sample_.prompt) - size(question_) - sample_.new_tokens;
}

TaskSample Prompt::with(const std::vector<Piece>& body) && {
  for (const Piece& piece : body) append(piece, sample_.prompt);
  append(question_, sample_.prompt);
  return std::move(sample_);
}

std::optional<TaskSample> hide(PieceEncoder& encode, const PromptParts& parts, const std::vector<std::string>& needles,
                               const std::function<std::string()>& next_sentence, int64_t length, Draws& draws) {
  Prompt prompt(encode, parts, length);
  int64_t room = prompt.room();
  std::vector<Piece> hidden, body;
  for (const std::string& needle : needles) {
    hidden.push_back(encode(needle));
    room -= size(hidden.back());
  }
  if (room < kFewestTokensANeedle * static_cast<int64_t>(needles.size())) return std::nullopt;
  while (room > 0) {
    Piece sentence = encode(next_sentence());
    sentence.resize(static_cast<size_t>(std::min(size(sentence), room)));
    room -= size(sentence);
    body.push_back(std::move(sentence));
  }
  std::vector<int64_t> places;
  for (size_t i = 0; i < hidden.size(); ++i) places.push_back(draws.below(static_cast<int64_t>(body.size()) + 1));
  std::sort(places.begin(), places.end());
  for (size_t i = hidden.size(); i-- > 0;) body.insert(body.begin() + places[i], hidden[i]);
  return std::move(prompt).with(body);
}

}  // namespace sluice
