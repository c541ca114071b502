#pragma once

#include <optional>
#include <string>
#include <vector>

#include "configs/manifest.pb.h"
#include "parallel/parameter_record.h"
#include "runtime/checkpoint/safetensors.h"

namespace sluice {

/// shard-00000-of-00008.safetensors.
std::string shard_file_name(int shard, int shards);

/// The piece of elements [begin, end) of the boxes of a parameter, without its file and checksums. Its tensor has the
/// parameter's name and shape when it is whole, else a name that tells it from the other pieces.
Piece make_piece(const ParameterRecord& record, Piece::Kind kind, DType dtype, int64_t begin, int64_t end);

/// The pieces of weights alone, each parameter whole.
std::vector<Piece> weight_pieces(const std::vector<ParameterRecord>& records, DType dtype);

/// Writes one shard, pieces one after the other, from bytes that come in any portions, and takes all their checksums.
class ShardWriter {
 public:
  /// `pieces` in the order in which their bytes will come. Throws Error when folder/file cannot be written.
  ShardWriter(const std::string& folder, const std::string& file, const std::vector<Piece>& pieces);

  void write(const void* data, size_t bytes);
  /// To be called once every byte was written: gives the shard its name. Returns a manifest that holds shard and pieces
  /// only. Throws Error when the file cannot be written.
  Manifest finish();
  /// CPU time that writing has taken so far by its blocks, seconds.
  double blocks_cpu_s() const { return writer_->blocks_cpu_s(); }

 private:
  void skip_empty_pieces();
  void close_chunk();
  void close_piece();

  Manifest manifest_;
  std::optional<SafetensorsWriter> writer_;
  int next_ = 0;    // piece that the next byte belongs to
  int64_t at_ = 0;  // place of the next byte in it
  std::optional<Xxh3> hash_, chunk_hash_;
};

}  // namespace sluice
