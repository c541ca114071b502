#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "configs/manifest.pb.h"
#include "parallel/parameter_record.h"
#include "runtime/checkpoint/safetensors.h"

namespace sluice {

/// Reads a checkpoint folder, whatever layout wrote it. Bytes are verified by checksum as they are read.
class CheckpointReader {
 public:
  /// Opens folder/manifest.textproto and verifies it. Throws Error naming the file and what is wrong.
  explicit CheckpointReader(const std::string& folder);

  const Manifest& manifest() const { return manifest_; }

  /// Whether anything of one kind is stored of a parameter.
  bool has(const std::string& name, Piece::Kind kind) const { return pieces_.count({name, kind}) > 0; }

  /// Fills the parameter's range of a flat buffer (f32 or f64; converted if it was stored in the other) with what is
  /// stored of one kind. Throws Error when it is not there, has another shape, is incomplete or damaged.
  void read(const ParameterRecord& record, Piece::Kind kind, Tensor flat);

  /// Throws Error when there is a piece of a parameter that is not among these: the model is not the one that was
  /// saved.
  void check_parameters(const std::vector<ParameterRecord>& records) const;

  /// Compares every shard with its checksum. Throws Error naming the first that differs.
  void verify_shards();

 private:
  const SafetensorsFile& shard(const std::string& file);
  /// Adds the ranges of the whole parameter that it has read.
  void read_piece(const Piece& piece, const ParameterRecord& record, Tensor flat,
                  std::vector<std::pair<int64_t, int64_t>>& ranges);

  std::string folder_;
  Manifest manifest_;
  std::map<std::pair<std::string, Piece::Kind>, std::vector<const Piece*>> pieces_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> shards_;
};

}  // namespace sluice
