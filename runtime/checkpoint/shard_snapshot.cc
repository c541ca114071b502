#include "runtime/checkpoint/shard_snapshot.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/files/thread_clock.h"

namespace sluice {
namespace {

/// Whether all are: of infinities and NaN every bit of the exponent is set.
template <class Float, class Bits>
bool finite(const char* data, int64_t bytes, Bits exponent) {
  const Float* x = reinterpret_cast<const Float*>(data);
  Bits found = 0;
  for (int64_t i = 0; i < bytes / static_cast<int64_t>(sizeof(Float)); ++i) {
    found |= (std::bit_cast<Bits>(x[i]) & exponent) == exponent;
  }
  return found == 0;
}

bool finite(DType dtype, const char* data, int64_t bytes) {
  return dtype == DType::kF64 ? finite<double>(data, bytes, uint64_t{0x7ff} << 52)
                              : finite<float>(data, bytes, uint32_t{0xff} << 23);
}

const char* in_words(Piece::Kind kind) {
  return kind == Piece::M ? "a first moment of " : kind == Piece::V ? "a second moment of " : "a weight of ";
}

}  // namespace

ShardSnapshot::ShardSnapshot(const std::vector<OwnedElements>& owned, Arena& staging) {
  const auto add = [&](const OwnedElements& part, Piece::Kind kind, Tensor elements) {
    sources_.push_back({make_piece(*part.record, kind, elements.dtype, part.begin, part.end), elements,
                        staging.alloc(part.record->name, elements.dtype, elements.shape)});
    bytes_ += elements.bytes();
  };
  for (const OwnedElements& part : owned) add(part, Piece::MASTER, part.master);
  for (const OwnedElements& part : owned) add(part, Piece::M, part.m);
  for (const OwnedElements& part : owned) add(part, Piece::V, part.v);
}

void ShardSnapshot::take(Stream& s) {
  for (Source& source : sources_) {
    cast(s, source.elements, source.copy);
    source.taken = source.copy;
  }
}

void ShardSnapshot::borrow() {
  for (Source& source : sources_) source.taken = source.elements;
}

ShardSnapshot::Written ShardSnapshot::write(const std::string& folder, const std::string& file,
                                            const std::stop_token& stop) const {
  constexpr int64_t kPortion = int64_t{256} << 10;  // stays in a cache
  const double start = thread_cpu_time_s();
  std::vector<Piece> pieces;
  for (const Source& source : sources_) pieces.push_back(source.piece);
  ShardWriter writer(folder, file, pieces);
  for (const Source& source : sources_) {
    for (int64_t at = 0, bytes = source.taken.bytes(); at < bytes; at += kPortion) {
      ENSURE(!stop.stop_requested(), folder, "/", file, ": given up");
      const char* portion = static_cast<const char*>(source.taken.data) + at;
      const int64_t count = std::min(kPortion, bytes - at);
      ENSURE(finite(source.taken.dtype, portion, count), in_words(source.piece.kind()), source.piece.name(),
             " is not finite: no run could go on from it");
      writer.write(portion, static_cast<size_t>(count));
    }
  }
  Manifest manifest = writer.finish();
  return {std::move(manifest), thread_cpu_time_s() - start + writer.blocks_cpu_s()};
}

}  // namespace sluice
