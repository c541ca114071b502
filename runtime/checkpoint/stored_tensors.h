#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "configs/manifest.pb.h"
#include "parallel/parameter_record.h"

namespace sluice {

/// A parameter or one of its moments, as a checkpoint holds it over all of its pieces.
struct StoredTensor {
  ParameterRecord record;  ///< of the whole: its only box is all of it
  Piece::Kind kind = Piece::MASTER;
  Piece::Type type = Piece::F32;

  DType dtype() const { return type == Piece::F64 ? DType::kF64 : DType::kF32; }
  int64_t element_bytes() const { return dtype_bytes(dtype()); }
};

/// What a checkpoint holds, by kind and name whatever layout wrote it. Throws Error naming the parameter when its
/// pieces have several shapes or types.
std::vector<StoredTensor> stored_tensors(const Manifest& manifest, const std::string& folder);

/// Pieces by name and kind.
using PieceMap = std::map<std::pair<std::string, Piece::Kind>, std::vector<const Piece*>>;
PieceMap pieces_by_tensor(const Manifest& manifest);

/// Elements that lie together in a whole parameter, and where they lie in a part of it.
struct Run {
  int64_t global, count, at;
  int64_t end() const { return global + count; }
};
/// Of elements [begin, end) of a parameter's boxes, back to back.
std::vector<Run> runs_of(const std::vector<int64_t>& shape, const std::vector<Box>& boxes, int64_t begin, int64_t end);
/// Of what a piece holds of a parameter of that shape.
std::vector<Run> runs_of(const std::vector<int64_t>& shape, const Piece& piece);

/// "[3, 5]".
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace sluice
