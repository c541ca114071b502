#include "runtime/checkpoint/stored_tensors.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace sluice {
namespace {

StoredTensor make_stored(const std::vector<const Piece*>& pieces, const std::string& folder) {
  const Piece& first = *pieces.front();
  StoredTensor stored;
  stored.record.name = first.name();
  stored.record.global_shape.assign(first.global_shape().begin(), first.global_shape().end());
  stored.record.boxes = {{std::vector<int64_t>(stored.record.global_shape.size(), 0), stored.record.global_shape}};
  stored.record.count = stored.record.global_count();
  stored.kind = first.kind();
  stored.type = first.dtype();
  for (const Piece* piece : pieces) {
    ENSURE(std::ranges::equal(piece->global_shape(), first.global_shape()), folder,
           "/manifest.textproto: the pieces of ", first.name(), " have several shapes");
    ENSURE(piece->dtype() == first.dtype(), folder, "/manifest.textproto: the pieces of ", first.name(),
           " have several types");
  }
  return stored;
}

}  // namespace

std::vector<Run> runs_of(const std::vector<int64_t>& shape, const std::vector<Box>& boxes, int64_t begin, int64_t end) {
  std::vector<Run> runs;
  int64_t at = 0;
  for_each_run(shape, boxes, [&](int64_t global, int64_t count) {
    const int64_t from = std::max(at, begin), to = std::min(at + count, end);
    if (from < to) runs.push_back({global + from - at, to - from, from - begin});
    at += count;
  });
  return runs;
}

std::vector<Run> runs_of(const std::vector<int64_t>& shape, const Piece& piece) {
  std::vector<Box> boxes;
  for (const PieceBox& box : piece.boxes()) {
    boxes.push_back({{box.begin().begin(), box.begin().end()}, {box.end().begin(), box.end().end()}});
  }
  return runs_of(shape, boxes, piece.flat_begin(), piece.flat_begin() + piece.flat_count());
}

PieceMap pieces_by_tensor(const Manifest& manifest) {
  PieceMap pieces;
  for (const Piece& piece : manifest.pieces()) pieces[{piece.name(), piece.kind()}].push_back(&piece);
  return pieces;
}

std::vector<StoredTensor> stored_tensors(const Manifest& manifest, const std::string& folder) {
  std::vector<StoredTensor> tensors;
  for (const auto& [key, pieces] : pieces_by_tensor(manifest)) tensors.push_back(make_stored(pieces, folder));
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const StoredTensor& a, const StoredTensor& b) { return a.kind < b.kind; });
  return tensors;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace sluice
