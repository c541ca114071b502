#pragma once

#include <span>

#include "kernels/core/arena.h"
#include "kernels/core/stream.h"
#include "parallel/mesh.h"

namespace sluice {

/// Brings rows to the ranks that hold their experts and the results back, without dropping any. A rank takes a bounded
/// number of rows at a time: when more come, they come in passes, the same number on every rank of the group.
///
/// Rows are sorted by expert on the sender. A rank's experts see them sorted by expert, then by sender, then as the
/// sender had them, so that their order does not depend on the layout.
class ExpertExchange {
 public:
  /// Gathers the counts of all ranks.
  ///   counts   [experts] i64  rows that this rank sends to each expert; on the host
  ///   budget   rows that a rank takes in a pass, as a multiple of an even share of the most that any rank sends
  /// Memory comes from `kept` and is needed as long as the exchange is. Every rank of mesh.experts() calls it.
  void plan(const Mesh& mesh, Arena& kept, Tensor counts, double budget);

  int64_t passes() const { return passes_; }
  /// Rows that this rank takes in a pass.
  int64_t rows(int64_t pass) const;
  /// Whether all rows are of this rank, and nothing moves.
  bool local() const { return mesh_->experts().size() == 1; }

  /// One pass: who sends what, and where it lies.
  struct Pass {
    int64_t rows = 0;                  ///< rows taken
    Tensor offsets;                    ///< [local experts + 1] i64, first row of each
    std::span<const RowRun> sent;      ///< of this rank's rows sorted by expert, to each rank of the group
    std::span<const RowRun> received;  ///< of the rows taken, in expert order: by expert, then by sender
  };
  /// Memory comes from `arena`.
  Pass pass(Arena& arena, int64_t index) const;

  /// sorted [sent rows, width], on the sender -> [pass.rows, width] in expert order, allocated from `arena` unless
  /// the exchange is local, which gives a view of `sorted`. Every rank of the group calls it.
  Tensor dispatch(Arena& arena, const Pass& pass, Tensor sorted, Site site = Site::current()) const;

  /// Where the experts write what combine() takes to `returned`: [pass.rows, width].
  Tensor results(Arena& arena, const Pass& pass, Tensor returned) const;

  /// The way back: rows [pass.rows, width] of results() -> their places in `returned` [sent rows, width], which may be
  /// the `sorted` that was dispatched. Ranks that share an expert send a term each; their sum is taken in rank order.
  /// Every rank of the group calls it.
  void combine(Stream& s, Arena& scratch, const Pass& pass, Tensor rows, Tensor returned,
               Site site = Site::current()) const;

 private:
  int64_t count(int64_t sender, int64_t expert) const { return all_counts_.as<int64_t>()[sender * experts_ + expert]; }
  /// Rows that come to the experts of the rank at `ep`.
  int64_t received(int64_t ep) const;
  /// Of the rows of `sender` for the experts of the rank at `ep`: how many come before the pass, and in it.
  struct Share {
    int64_t before = 0, in = 0;
  };
  Share share(int64_t ep, int64_t sender, int64_t pass) const;
  /// First of this rank's rows for the experts of the rank at `ep`.
  int64_t first_row_of_rank(int64_t ep) const;
  void fill_received(Pass& pass, Arena& arena, int64_t index) const;

  const Mesh* mesh_ = nullptr;
  Tensor all_counts_;  // [ranks, experts] i64
  int64_t experts_ = 0, local_experts_ = 0;
  int64_t rows_at_a_time_ = 0, passes_ = 1;
};

}  // namespace sluice
