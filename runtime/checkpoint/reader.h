#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "configs/manifest.pb.h"
#include "parallel/parameter_record.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/stored_tensors.h"

namespace sluice {

/// Reads a checkpoint folder, whatever layout wrote it. Bytes are verified by checksum as they are read, a chunk at a
/// time. What is not as it was written throws Error of Fault::kDamage.
class CheckpointReader {
 public:
  /// Opens folder/manifest.textproto and verifies it. Throws Error naming the file and what is wrong.
  explicit CheckpointReader(const std::string& folder);

  const Manifest& manifest() const { return manifest_; }

  /// Whether anything of one kind is stored of a parameter.
  bool has(const std::string& name, Piece::Kind kind) const { return pieces_.count({name, kind}) > 0; }

  /// Reads elements [begin, end) of what the record's rank holds of a parameter, whatever part of the whole that is,
  /// and of the bytes stored no more than the chunks that hold them.
  ///   elements  [end - begin] f32 | f64, out; converted if it was stored in the other
  /// Throws Error when it is not there, has another shape, is incomplete or damaged.
  void read(const ParameterRecord& record, Piece::Kind kind, int64_t begin, int64_t end, Tensor elements);
  /// The same of all that the rank holds, into its range of a flat buffer.
  void read(const ParameterRecord& record, Piece::Kind kind, Tensor flat) {
    read(record, kind, 0, record.count, flat.rows(record.flat_begin, record.count));
  }

  /// Throws Error when there is a piece of a parameter that is not among these: the model is not the one that was
  /// saved.
  void check_parameters(const std::vector<ParameterRecord>& records) const;

 private:
  /// What is stored of a run that is wanted, and where.
  struct Overlap {
    Run wanted;
    int64_t stored_at;
  };
  /// `wanted` is ascending.
  static std::vector<Overlap> overlaps(const std::vector<Run>& stored, const std::vector<Run>& wanted);
  /// Throws Error unless it is one of the manifest's and its header is as it was written.
  const SafetensorsFile& shard(const std::string& file);
  /// A piece's bytes from `begin` on to the end of their chunk, as they were written; until the next call.
  std::string_view verified_bytes(const Piece& piece, int64_t begin);
  /// Copies what a piece has of `wanted`, ascending runs of `elements`, and adds what it was to `found`.
  void read_piece(const Piece& piece, const ParameterRecord& record, const std::vector<Run>& wanted, Tensor elements,
                  std::vector<Run>& found);
  /// Throws Error unless `found`, which it sorts, is all that is wanted, once.
  void check_complete(const std::string& name, const std::vector<Run>& wanted, std::vector<Run>& found) const;

  std::string folder_;
  Manifest manifest_;
  PieceMap pieces_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> shards_;
  struct {
    const Piece* piece = nullptr;
    int64_t index = 0;
    std::vector<char> bytes;
  } chunk_;  // the last that was read
};

}  // namespace sluice
