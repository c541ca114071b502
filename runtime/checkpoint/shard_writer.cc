#include "runtime/checkpoint/shard_writer.h"

#include <cstdio>

#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/safetensors.h"

namespace sluice {
namespace {

struct NamedKind {
  Piece::Kind kind;
  const char* suffix;
};
constexpr NamedKind kKinds[] = {{Piece::MASTER, ""}, {Piece::M, ".m"}, {Piece::V, ".v"}};

std::string shard_name(int rank, int world_size) {
  char name[64];
  std::snprintf(name, sizeof name, "shard-%05d-of-%05d.safetensors", rank, world_size);
  return name;
}

Tensor elements_of(const OwnedElements& owned, Piece::Kind kind) {
  switch (kind) {
    case Piece::MASTER:
      return owned.master;
    case Piece::M:
      return owned.m;
    case Piece::V:
      return owned.v;
  }
  return {};
}

/// A piece and where its elements lie.
struct Source {
  Piece piece;
  Tensor elements;
};

/// Tells pieces of a parameter apart: where the first element of the boxes lies, and which elements of them these are.
std::string place_name(const ParameterRecord& record, const OwnedElements& owned) {
  std::string name = "[";
  for (int64_t i : record.boxes.front().begin) name += std::to_string(i) + ",";
  return name + std::to_string(owned.begin) + ":" + std::to_string(owned.end) + "]";
}

void set_checksums(std::string_view bytes, Piece& piece) {
  piece.set_xxh3(hex16(xxh3(bytes)));
  if (piece.bytes() <= kChunkBytes) return;
  for (size_t at = 0; at < bytes.size(); at += kChunkBytes) {
    piece.add_chunk_xxh3(hex16(xxh3(bytes.substr(at, kChunkBytes))));
  }
}

Source make_source(const OwnedElements& owned, const NamedKind& kind, const std::string& file) {
  const ParameterRecord& record = *owned.record;
  Source source;
  source.elements = elements_of(owned, kind.kind);
  Piece& piece = source.piece;
  const bool whole = owned.begin == 0 && owned.end == record.global_count();
  piece.set_name(record.name);
  piece.set_kind(kind.kind);
  piece.set_dtype(source.elements.dtype == DType::kF64 ? Piece::F64 : Piece::F32);
  for (int64_t dim : record.global_shape) piece.add_global_shape(dim);
  for (const Box& box : record.boxes) {
    PieceBox& out = *piece.add_boxes();
    for (int64_t i : box.begin) out.add_begin(i);
    for (int64_t i : box.end) out.add_end(i);
  }
  piece.set_flat_begin(owned.begin);
  piece.set_flat_count(owned.end - owned.begin);
  piece.set_file(file);
  piece.set_tensor(record.name + kind.suffix + (whole ? "" : place_name(record, owned)));
  piece.set_bytes(source.elements.bytes());
  set_checksums({static_cast<const char*>(source.elements.data), static_cast<size_t>(piece.bytes())}, piece);
  return source;
}

/// As the tensor stands in the shard: in its own shape when whole, else flat.
SafetensorsEntry make_entry(const ParameterRecord& record, const Source& source) {
  SafetensorsEntry entry;
  entry.name = source.piece.tensor();
  entry.dtype = source.piece.dtype() == Piece::F64 ? "F64" : "F32";
  entry.shape = source.piece.flat_count() == record.global_count() ? record.global_shape
                                                                   : std::vector<int64_t>{source.piece.flat_count()};
  return entry;
}

}  // namespace

Manifest write_shard(const std::string& folder, int rank, int world_size, const std::vector<OwnedElements>& owned) {
  const std::string file = shard_name(rank, world_size);
  std::vector<Source> sources;
  std::vector<SafetensorsEntry> entries;
  for (const NamedKind& kind : kKinds) {
    for (const OwnedElements& elements : owned) {
      sources.push_back(make_source(elements, kind, file));
      entries.push_back(make_entry(*elements.record, sources.back()));
    }
  }
  SafetensorsWriter writer(folder + "/" + file, std::move(entries));
  Manifest manifest;
  for (const Source& source : sources) {
    writer.write(source.elements.data, static_cast<size_t>(source.elements.bytes()));
    *manifest.add_pieces() = source.piece;
  }
  ShardFile& shard = *manifest.add_shards();
  shard.set_file(file);
  shard.set_bytes(writer.file_bytes());
  shard.set_xxh3(hex16(writer.xxh3()));
  writer.commit();
  return manifest;
}

}  // namespace sluice
