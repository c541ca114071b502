#include <algorithm>

#include "runtime/data/bpe_trainer.h"
#include "runtime/data/corpus.h"
#include "runtime/data/ordered_pipeline.h"
#include "runtime/data/split_pattern.h"
#include "runtime/files/utf8.h"

namespace sluice {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;
// Longer ones (encoded data, rules of dashes) teach nothing and slow every merge down.
constexpr size_t kLongestWord = 256;

class WordCounter {
 public:
  explicit WordCounter(const SplitPattern& pattern) : splitter_(pattern) {}

  void add(std::string_view text) {
    while (!text.empty()) {
      const size_t valid = valid_utf8_prefix(text);
      splitter_.split(text.substr(0, valid), [this](std::string_view word) {
        if (word.size() > kLongestWord) return;
        word_ = word;
        ++counts_[word_];
      });
      text.remove_prefix(std::min(valid + 1, text.size()));
    }
  }
  const WordCounts& counts() const { return counts_; }

 private:
  Splitter splitter_;
  WordCounts counts_;
  std::string word_;
};

}  // namespace

WordCounts count_words(const std::vector<std::string>& paths, const std::string& split_regex, int workers) {
  const SplitPattern pattern(split_regex);
  std::vector<WordCounter> counters;
  for (int worker = 0; worker < workers; ++worker) counters.emplace_back(pattern);
  CorpusReader reader(paths);
  run_ordered<std::vector<Document>>(
      workers, [&](std::vector<Document>& chunk) { return next_chunk(reader, kChunkBytes, chunk); },
      [&](std::vector<Document>& chunk, int worker) {
        for (const Document& document : chunk) counters[static_cast<size_t>(worker)].add(document.text);
      },
      [](std::vector<Document>&) {});
  WordCounts total;
  for (const WordCounter& counter : counters) {
    for (const auto& [word, count] : counter.counts()) total[word] += count;
  }
  return total;
}

}  // namespace sluice
