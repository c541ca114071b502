#include "runtime/data/indexed_writer.h"

#include <limits>

#include "kernels/core/error.h"
#include "runtime/data/indexed_format.h"

namespace sluice {
namespace {

template <class T>
void put(OutputFile& file, T value) {
  file.write(&value, sizeof value);
}

}  // namespace

IndexedWriter::IndexedWriter(const std::string& prefix, int64_t vocab_size)
    : tokens_file_(prefix + ".bin"), index_(prefix + ".idx"), narrow_(vocab_size < kUint16VocabLimit) {}

void IndexedWriter::add(std::span<const int32_t> ids) {
  ENSURE(ids.size() <= static_cast<size_t>(std::numeric_limits<int32_t>::max()), "document ", documents(), " has ",
         ids.size(), " tokens, more than the format can hold");
  if (narrow_) {
    narrowed_.assign(ids.begin(), ids.end());
    tokens_file_.write(narrowed_.data(), narrowed_.size() * sizeof(uint16_t));
  } else {
    tokens_file_.write(ids.data(), ids.size_bytes());
  }
  tokens_ += static_cast<int64_t>(ids.size());
  lengths_.push_back(static_cast<int32_t>(ids.size()));
}

void IndexedWriter::finish() {
  index_.write(kIndexMagic, sizeof kIndexMagic);
  put(index_, kIndexVersion);
  put(index_, narrow_ ? kIndexUint16 : kIndexInt32);
  put<uint64_t>(index_, lengths_.size());
  put<uint64_t>(index_, lengths_.size() + 1);
  index_.write(lengths_.data(), lengths_.size() * sizeof(int32_t));
  int64_t offset = 0;
  for (const int32_t length : lengths_) {
    put(index_, offset);
    offset += int64_t{length} * (narrow_ ? 2 : 4);
  }
  for (int64_t d = 0; d <= documents(); ++d) put(index_, d);
  tokens_file_.commit();
  index_.commit();
}

}  // namespace sluice
