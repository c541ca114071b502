#include "runtime/data/indexed_dataset.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/data/indexed_format.h"
#include "runtime/files/xxh3.h"

namespace sluice {
namespace {

// Fields behind the 34-byte header are not aligned.
template <class T>
T load(const char* data, int64_t i = 0) {
  T value;
  std::memcpy(&value, data + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

// Widens to i32 and returns the largest id as unsigned, so that a negative id is large.
template <class T>
uint32_t widen(const char* from, int64_t count, int32_t* out) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto id = static_cast<int32_t>(load<T>(from, i));
    out[i] = id;
    largest = std::max(largest, static_cast<uint32_t>(id));
  }
  return largest;
}

}  // namespace

IndexedDataset::IndexedDataset(std::string prefix)
    : prefix_(std::move(prefix)), index_(prefix_ + ".idx"), tokens_file_(prefix_ + ".bin") {
  read_header();
  check_sequences();
  check_documents();
}

void IndexedDataset::read_header() {
  const std::string_view bytes = index_.bytes();
  const std::string& path = index_.path();
  const auto size = static_cast<int64_t>(bytes.size());
  ENSURE(size >= kIndexHeaderBytes, path, ": header: expected ", kIndexHeaderBytes, " bytes, the file has ", size);
  ENSURE(std::memcmp(bytes.data(), kIndexMagic, sizeof kIndexMagic) == 0, path,
         ": magic: expected MMIDIDX, this is not an index of a Megatron data set");
  const auto version = load<uint64_t>(bytes.data() + 9);
  ENSURE(version == kIndexVersion, path, ": version: expected ", kIndexVersion, ", got ", version);
  const int dtype = load<uint8_t>(bytes.data() + 17);
  ENSURE(dtype == kIndexInt32 || dtype == kIndexUint16, path, ": dtype: expected 4 (int32) or 8 (uint16), got ", dtype);
  token_bytes_ = dtype == kIndexInt32 ? 4 : 2;

  const auto sequences = load<uint64_t>(bytes.data() + 18);
  const auto boundaries = load<uint64_t>(bytes.data() + 26);
  const auto rest = static_cast<uint64_t>(size - kIndexHeaderBytes);
  ENSURE(sequences <= rest / 12 && boundaries <= rest / 8 && 12 * sequences + 8 * boundaries == rest, path,
         ": counts: the header announces ", sequences, " sequences and ", boundaries,
         " document boundaries, which do not match a file of ", size, " bytes; is it truncated?");
  ENSURE(boundaries >= 1, path, ": doc_index: expected at least one boundary, got none");
  sequences_ = static_cast<int64_t>(sequences);
  documents_ = static_cast<int64_t>(boundaries) - 1;
  tokens_ = static_cast<int64_t>(tokens_file_.bytes().size()) / token_bytes_;
  lengths_ = bytes.data() + kIndexHeaderBytes;
  offsets_ = lengths_ + 4 * sequences_;
  document_index_ = offsets_ + 8 * sequences_;
}

void IndexedDataset::check_sequences() const {
  const auto bin_bytes = static_cast<int64_t>(tokens_file_.bytes().size());
  int64_t end = 0;
  for (int64_t i = 0; i < sequences_; ++i) {
    const auto length = load<int32_t>(lengths_, i);
    const auto offset = load<int64_t>(offsets_, i);
    ENSURE(length >= 0, index_.path(), ": length[", i, "]: expected 0 or more, got ", length);
    ENSURE(offset == end, index_.path(), ": byte_offset[", i, "]: expected ", end,
           " (the end of the sequence before), got ", offset);
    end += length * token_bytes_;
    ENSURE(end <= bin_bytes, tokens_file_.path(), ": sequence ", i, " ends at byte ", end, ", the file has ", bin_bytes,
           "; is it truncated?");
  }
  ENSURE(end == bin_bytes, index_.path(), ": lengths add up to ", end, " bytes, ", tokens_file_.path(), " has ",
         bin_bytes);
}

void IndexedDataset::check_documents() const {
  int64_t last = 0;
  for (int64_t d = 0; d <= documents_; ++d) {
    const auto boundary = load<int64_t>(document_index_, d);
    ENSURE(d > 0 || boundary == 0, index_.path(), ": doc_index[0]: expected 0, got ", boundary);
    ENSURE(boundary >= last && boundary <= sequences_, index_.path(), ": doc_index[", d, "]: expected ", last, "..",
           sequences_, ", got ", boundary);
    last = boundary;
  }
  ENSURE(last == sequences_, index_.path(), ": doc_index ends at sequence ", last, ", expected ", sequences_);
}

int64_t IndexedDataset::sequence_start(int64_t i) const {
  return i == sequences_ ? tokens_ : load<int64_t>(offsets_, i) / token_bytes_;
}

int64_t IndexedDataset::document_start(int64_t d) const { return sequence_start(load<int64_t>(document_index_, d)); }

int64_t IndexedDataset::targets() const {
  int64_t targets = tokens_;
  for (int64_t d = 0; d < documents_; ++d) targets -= document_start(d + 1) > document_start(d);
  return targets;
}

int64_t IndexedDataset::document_of(int64_t token) const {
  int64_t low = 0, high = documents_;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (document_start(middle) <= token ? low : high) = middle;
  }
  return low;
}

uint64_t IndexedDataset::fingerprint() const {
  constexpr size_t kBlock = size_t{16} << 10, kBlocks = 256;
  const std::string_view index = index_.bytes(), tokens = tokens_file_.bytes();
  Xxh3 hash;
  hash.add(index.data(), index.size());
  const size_t last = tokens.size() - std::min(kBlock, tokens.size());
  const size_t stride = std::max(kBlock, last / (kBlocks - 1));
  for (size_t at = 0; at < last; at += stride) hash.add(tokens.data() + at, kBlock);
  hash.add(tokens.data() + last, tokens.size() - last);
  return hash.digest();
}

void IndexedDataset::read(int64_t begin, int64_t count, int64_t vocab_size, int32_t* out) const {
  INVARIANT(begin >= 0 && count >= 0 && begin <= tokens_ - count, prefix_, ": read of ", count, " tokens at ", begin,
            " of ", tokens_);
  const char* from = tokens_file_.bytes().data() + begin * token_bytes_;
  const uint32_t largest = token_bytes_ == 4 ? widen<int32_t>(from, count, out) : widen<uint16_t>(from, count, out);
  if (count == 0 || static_cast<int64_t>(largest) < vocab_size) return;
  for (int64_t i = 0; i < count; ++i) {
    if (out[i] < 0 || out[i] >= vocab_size) refuse_token(begin + i, out[i], vocab_size);
  }
}

int32_t IndexedDataset::largest_id(int64_t count, int64_t vocab_size) const {
  constexpr int64_t kBlockTokens = int64_t{1} << 16;
  std::vector<int32_t> ids(static_cast<size_t>(std::min(kBlockTokens, count)));
  int32_t largest = -1;
  for (int64_t begin = 0; begin < count; begin += kBlockTokens) {
    const int64_t block = std::min(kBlockTokens, count - begin);
    read(begin, block, vocab_size, ids.data());
    largest = std::max(largest, *std::max_element(ids.begin(), ids.begin() + block));
  }
  return largest;
}

void IndexedDataset::refuse_token(int64_t token, int64_t id, int64_t vocab_size) const {
  const int64_t document = document_of(token);
  throw Error(concat(tokens_file_.path(), ": document ", document, ", position ", token - document_start(document),
                     ": token id ", id, " is not in the vocabulary of ", vocab_size,
                     "; does model.vocab_size fit the tokenizer of the data?"),
              __FILE__, __LINE__);
}

}  // namespace sluice
