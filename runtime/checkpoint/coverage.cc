#include "runtime/checkpoint/coverage.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "runtime/checkpoint/stored_tensors.h"

namespace sluice {
namespace {

/// What is wrong with the pieces of a tensor; empty: they are each of its elements once.
std::string tensor_problem(const std::vector<const Piece*>& pieces, const ParameterRecord& record) {
  int64_t held = 0;
  for (const Piece* piece : pieces) {
    if (!std::ranges::equal(piece->global_shape(), record.global_shape)) {
      return concat("has shape ", shape_text({piece->global_shape().begin(), piece->global_shape().end()}),
                    ", the model's is ", shape_text(record.global_shape));
    }
    if (__builtin_add_overflow(held, piece->flat_count(), &held)) return "its pieces hold too many elements";
  }
  // Also bounds the runs that follow by what is stored.
  if (held != record.global_count()) return concat("its pieces hold ", held, " elements of ", record.global_count());
  std::vector<Run> runs;
  for (const Piece* piece : pieces) {
    const std::vector<Run> more = runs_of(record.global_shape, *piece);
    runs.insert(runs.end(), more.begin(), more.end());
  }
  std::ranges::sort(runs, {}, &Run::global);
  int64_t covered = 0;
  for (const Run& run : runs) {
    if (run.global < covered) return concat("its pieces overlap at element ", run.global);
    if (run.global > covered) return concat("its pieces lack element ", covered);
    covered = run.end();
  }
  return "";
}

}  // namespace

std::vector<std::string> coverage_problems(const Manifest& manifest, const std::vector<ParameterRecord>& model) {
  PieceMap pieces = pieces_by_tensor(manifest);
  std::vector<std::string> problems;
  const bool moments = std::ranges::any_of(manifest.pieces(), [](const Piece& p) { return p.kind() != Piece::MASTER; });
  for (const ParameterRecord& record : model) {
    for (const Piece::Kind kind : {Piece::MASTER, Piece::M, Piece::V}) {
      const auto found = pieces.extract({record.name, kind});
      if (found.empty() && kind != Piece::MASTER && !moments) continue;
      const std::string problem = found.empty() ? "is missing" : tensor_problem(found.mapped(), record);
      if (!problem.empty()) problems.push_back(concat(Piece::Kind_Name(kind), " of ", record.name, ": ", problem));
    }
  }
  for (const auto& [key, unknown] : pieces) {
    problems.push_back(concat(Piece::Kind_Name(key.second), " of ", key.first, ": the model has no such parameter"));
  }
  return problems;
}

}  // namespace sluice
