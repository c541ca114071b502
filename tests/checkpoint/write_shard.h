#pragma once

#include <string>
#include <vector>

#include "runtime/checkpoint/shard_snapshot.h"
#include "runtime/checkpoint/shard_writer.h"

namespace sluice {

/// Writes a rank's shard from what the tensors hold now, as ShardSnapshot does, values that are not finite too.
inline Manifest write_shard(const std::string& folder, int rank, int world_size,
                            const std::vector<OwnedElements>& owned) {
  std::vector<Piece> pieces;
  std::vector<Tensor> in_order;
  const auto add = [&](const OwnedElements& part, Piece::Kind kind, Tensor elements) {
    pieces.push_back(make_piece(*part.record, kind, elements.dtype, part.begin, part.end));
    in_order.push_back(elements);
  };
  for (const OwnedElements& part : owned) add(part, Piece::MASTER, part.master);
  for (const OwnedElements& part : owned) add(part, Piece::M, part.m);
  for (const OwnedElements& part : owned) add(part, Piece::V, part.v);
  ShardWriter writer(folder, shard_file_name(rank, world_size), pieces);
  for (const Tensor& x : in_order) writer.write(x.data, static_cast<size_t>(x.bytes()));
  return writer.finish();
}

}  // namespace sluice
