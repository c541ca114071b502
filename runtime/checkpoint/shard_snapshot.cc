#include "runtime/checkpoint/shard_snapshot.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "kernels/elementwise.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/files/thread_clock.h"

namespace sluice {

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
  constexpr int64_t kPortion = int64_t{4} << 20;
  const double start = thread_cpu_time_s();
  std::vector<Piece> pieces;
  for (const Source& source : sources_) pieces.push_back(source.piece);
  ShardWriter writer(folder, file, pieces);
  for (const Source& source : sources_) {
    for (int64_t at = 0, bytes = source.taken.bytes(); at < bytes; at += kPortion) {
      ENSURE(!stop.stop_requested(), folder, "/", file, ": given up");
      writer.write(static_cast<const char*>(source.taken.data) + at,
                   static_cast<size_t>(std::min(kPortion, bytes - at)));
    }
  }
  Manifest manifest = writer.finish();
  return {std::move(manifest), thread_cpu_time_s() - start + writer.blocks_cpu_s()};
}

}  // namespace sluice
