#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/encoder.h"
#include "runtime/tasks/draws.h"
#include "runtime/tasks/task.h"

namespace sluice {

/// A piece of a prompt, encoded by itself, so that lengths add up.
using Piece = std::vector<int32_t>;
inline int64_t size(const Piece& piece) { return static_cast<int64_t>(piece.size()); }

/// Encodes pieces.
class PieceEncoder {
 public:
  explicit PieceEncoder(const Tokenizer& tokenizer) : encoder_(tokenizer) {}
  Piece operator()(std::string_view text) {
    Piece piece;
    encoder_.encode(text, piece);
    return piece;
  }

 private:
  Encoder encoder_;
};

/// What a prompt is made of.
struct PromptParts {
  std::string introduction;
  std::string question;              ///< its end begins the answer
  std::vector<std::string> answers;  ///< in the order that the question suggests
};

/// A prompt between introduction and question, with room for a body.
class Prompt {
 public:
  Prompt(PieceEncoder& encode, const PromptParts& parts, int64_t length);

  /// Tokens that the body may have; negative when not even the rest fits.
  int64_t room() const { return room_; }
  /// The sample with this body, which fits.
  TaskSample with(const std::vector<Piece>& body) &&;

 private:
  TaskSample sample_;
  Piece question_;
  int64_t room_;
};

/// Hides needles, in their order, at drawn places between sentences, the last of which is cut where the length ends.
/// Nothing when the text around them would have fewer than 16 tokens a needle.
std::optional<TaskSample> hide(PieceEncoder& encode, const PromptParts& parts, const std::vector<std::string>& needles,
                               const std::function<std::string()>& next_sentence, int64_t length, Draws& draws);

}  // namespace sluice
