#include "runtime/checkpoint/shard_writer.h"

#include <algorithm>
#include <cstdio>

#include "kernels/core/error.h"
#include "runtime/checkpoint/manifest.h"

namespace sluice {
namespace {

std::string tensor_name(const ParameterRecord& record, Piece::Kind kind, int64_t begin, int64_t end) {
  static constexpr const char* kSuffixes[] = {"", ".m", ".v"};
  std::string name = record.name + kSuffixes[kind];
  if (begin == 0 && end == record.global_count()) return name;
  // Where the first element of the boxes lies, and which elements of them these are.
  name += "[";
  for (int64_t i : record.boxes.front().begin) name += std::to_string(i) + ",";
  return name + std::to_string(begin) + ":" + std::to_string(end) + "]";
}

SafetensorsEntry make_entry(const Piece& piece) {
  SafetensorsEntry entry;
  entry.name = piece.tensor();
  entry.dtype = piece.dtype() == Piece::F64 ? "F64" : "F32";
  entry.shape.assign(piece.global_shape().begin(), piece.global_shape().end());
  int64_t count = 1;
  for (int64_t dim : entry.shape) count *= dim;
  if (piece.flat_count() != count) entry.shape = {piece.flat_count()};
  return entry;
}

}  // namespace

std::string shard_file_name(int shard, int shards) {
  char name[64];
  std::snprintf(name, sizeof name, "shard-%05d-of-%05d.safetensors", shard, shards);
  return name;
}

Piece make_piece(const ParameterRecord& record, Piece::Kind kind, DType dtype, int64_t begin, int64_t end) {
  Piece piece;
  piece.set_name(record.name);
  piece.set_kind(kind);
  piece.set_dtype(dtype == DType::kF64 ? Piece::F64 : Piece::F32);
  for (int64_t dim : record.global_shape) piece.add_global_shape(dim);
  for (const Box& box : record.boxes) {
    PieceBox& out = *piece.add_boxes();
    for (int64_t i : box.begin) out.add_begin(i);
    for (int64_t i : box.end) out.add_end(i);
  }
  piece.set_flat_begin(begin);
  piece.set_flat_count(end - begin);
  piece.set_tensor(tensor_name(record, kind, begin, end));
  piece.set_bytes((end - begin) * dtype_bytes(dtype));
  return piece;
}

std::vector<Piece> weight_pieces(const std::vector<ParameterRecord>& records, DType dtype) {
  std::vector<Piece> pieces;
  for (const ParameterRecord& r : records) pieces.push_back(make_piece(r, Piece::MASTER, dtype, 0, r.global_count()));
  return pieces;
}

ShardWriter::ShardWriter(const std::string& folder, const std::string& file, const std::vector<Piece>& pieces) {
  std::vector<SafetensorsEntry> entries;
  for (const Piece& piece : pieces) {
    *manifest_.add_pieces() = piece;
    manifest_.mutable_pieces()->rbegin()->set_file(file);
    entries.push_back(make_entry(piece));
  }
  manifest_.add_shards()->set_file(file);
  writer_.emplace(folder + "/" + file, std::move(entries));
  hash_.emplace();
  chunk_hash_.emplace();
  skip_empty_pieces();
}

void ShardWriter::write(const void* data, size_t bytes) {
  const char* next = static_cast<const char*>(data);
  for (int64_t left = static_cast<int64_t>(bytes); left > 0;) {
    INVARIANT(next_ < manifest_.pieces_size(), "more bytes than the pieces have");
    const int64_t piece_bytes = manifest_.pieces(next_).bytes(), to_chunk_end = kChunkBytes - at_ % kChunkBytes;
    const int64_t count = std::min({left, piece_bytes - at_, to_chunk_end});
    // While they are in the cache.
    hash_->add(next, static_cast<size_t>(count));
    if (piece_bytes > kChunkBytes) chunk_hash_->add(next, static_cast<size_t>(count));
    writer_->write(next, static_cast<size_t>(count));
    next += count, at_ += count, left -= count;
    if (at_ == piece_bytes || count == to_chunk_end) close_chunk();
    if (at_ == piece_bytes) close_piece();
  }
}

void ShardWriter::close_chunk() {
  Piece& piece = *manifest_.mutable_pieces(next_);
  if (piece.bytes() <= kChunkBytes) return;
  piece.add_chunk_xxh3(hex16(chunk_hash_->digest()));
  chunk_hash_.emplace();
}

void ShardWriter::close_piece() {
  manifest_.mutable_pieces(next_)->set_xxh3(hex16(hash_->digest()));
  hash_.emplace();
  ++next_, at_ = 0;
  skip_empty_pieces();
}

void ShardWriter::skip_empty_pieces() {
  for (; next_ < manifest_.pieces_size() && manifest_.pieces(next_).bytes() == 0; ++next_) {
    manifest_.mutable_pieces(next_)->set_xxh3(hex16(hash_->digest()));
  }
}

Manifest ShardWriter::finish() {
  INVARIANT(next_ == manifest_.pieces_size(), manifest_.pieces_size(), " pieces, only ", next_, " were written");
  ShardFile& shard = *manifest_.mutable_shards(0);
  shard.set_bytes(writer_->file_bytes());
  shard.set_header_xxh3(hex16(writer_->header_xxh3()));
  shard.set_xxh3(hex16(writer_->xxh3()));
  writer_->commit();
  return std::move(manifest_);
}

}  // namespace sluice
