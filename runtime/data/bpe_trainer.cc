#include "runtime/data/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "kernels/core/error.h"

namespace sluice {
namespace {

constexpr int32_t kNone = -1;

using Pair = uint64_t;
Pair pair_of(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }
int32_t left_of(Pair pair) { return static_cast<int32_t>(pair >> 32); }
int32_t right_of(Pair pair) { return static_cast<int32_t>(pair); }

struct PairInfo {
  int64_t count = 0;
  std::vector<uint32_t> words;  // that hold the pair, or held it
};

class Trainer {
 public:
  explicit Trainer(const WordCounts& counts) {
    words_.reserve(counts.size());
    for (const auto& [text, count] : counts) {
      Word word{count, {}};
      for (const char c : text) word.ids.push_back(static_cast<unsigned char>(c));
      words_.push_back(std::move(word));
    }
    for (uint32_t w = 0; w < words_.size(); ++w) {
      const std::vector<int32_t>& ids = words_[w].ids;
      for (size_t i = 0; i + 1 < ids.size(); ++i) add(pair_of(ids[i], ids[i + 1]), words_[w].count, w);
    }
    for (const auto& [pair, info] : pairs_) queue_.push({info.count, pair});
  }

  // The most frequent pair; false when none occurs twice.
  bool pop(Pair& best) {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const int64_t count = pairs_.at(top.pair).count;
      // Counts only fall after a pair was queued; one that fell is queued again where it belongs.
      if (count < top.count) {
        if (count > 0) queue_.push({count, top.pair});
        continue;
      }
      best = top.pair;
      return count >= 2;
    }
    return false;
  }

  void merge(Pair pair, int32_t result) {
    const std::vector<uint32_t> words = std::move(pairs_.at(pair).words);
    pairs_.at(pair) = {};
    for (const uint32_t w : words) merge_in_word(w, pair, result);
    for (const Pair made : created_) queue_.push({pairs_.at(made).count, made});
    created_.clear();
  }

 private:
  struct Word {
    int64_t count;
    std::vector<int32_t> ids;
  };
  struct Candidate {
    int64_t count;
    Pair pair;
    bool operator<(const Candidate& o) const { return count != o.count ? count < o.count : pair > o.pair; }
  };

  void add(Pair pair, int64_t count, uint32_t word) {
    PairInfo& info = pairs_[pair];
    info.count += count;
    if (info.words.empty() || info.words.back() != word) info.words.push_back(word);
  }

  void merge_in_word(uint32_t w, Pair pair, int32_t result) {
    Word& word = words_[w];
    std::vector<int32_t>& ids = word.ids;
    const int32_t left = left_of(pair), right = right_of(pair);
    size_t out = 0;
    for (size_t i = 0; i < ids.size(); ++out) {
      if (i + 1 == ids.size() || ids[i] != left || ids[i + 1] != right) {
        ids[out] = ids[i++];
        continue;
      }
      const int32_t before = out > 0 ? ids[out - 1] : kNone;
      const int32_t after = i + 2 < ids.size() ? ids[i + 2] : kNone;
      if (before != kNone) replace(pair_of(before, left), pair_of(before, result), word.count, w);
      if (after != kNone) replace(pair_of(right, after), pair_of(result, after), word.count, w);
      ids[out] = result;
      i += 2;
    }
    ids.resize(out);
  }

  void replace(Pair gone, Pair made, int64_t count, uint32_t word) {
    pairs_[gone].count -= count;
    if (!pairs_.contains(made)) created_.push_back(made);
    add(made, count, word);
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, PairInfo> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> created_;
};

}  // namespace

TokenizerSpec train_bpe(const WordCounts& words, int64_t vocab_size, const std::string& split_regex) {
  ENSURE(vocab_size >= 257 && vocab_size <= kLargestVocabulary,
         "--vocab: expected 257 (256 bytes and end of document) to ", kLargestVocabulary, ", got ", vocab_size);
  TokenizerSpec spec = bytes_tokenizer_spec();
  std::string eod = std::move(spec.tokens.back());
  spec.tokens.pop_back();
  spec.split_regex = split_regex;
  Trainer trainer(words);
  while (static_cast<int64_t>(spec.tokens.size()) + 1 < vocab_size) {
    Pair pair = 0;
    ENSURE(trainer.pop(pair), "--vocab: asked for ", vocab_size, " tokens, the text gives only ",
           spec.tokens.size() + 1, "; give more text or a smaller number");
    const int32_t left = left_of(pair), right = right_of(pair);
    const auto result = static_cast<int32_t>(spec.tokens.size());
    spec.merges.push_back({left, right, result, static_cast<int32_t>(spec.merges.size())});
    spec.tokens.push_back(spec.tokens[static_cast<size_t>(left)] + spec.tokens[static_cast<size_t>(right)]);
    trainer.merge(pair, result);
  }
  spec.eod = static_cast<int32_t>(spec.tokens.size());
  spec.tokens.push_back(std::move(eod));
  spec.added.front().id = spec.eod;
  return spec;
}

}  // namespace sluice
