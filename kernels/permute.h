#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Where each (token, slot) goes when rows are sorted by expert; within an expert by token, then slot.
///   indices     [tokens, top_k] i32          chosen experts
///   counts      [experts] i64                how many (token, slot) pairs chose each
///   offsets     [experts + 1] i64            out, first row of each expert
///   row_of_slot [tokens, top_k] i32          out
///   slot_of_row [tokens * top_k] i32         out, token * top_k + slot
/// Throws Error on a shape or dtype mismatch or counts that do not belong to the indices.
void permute_plan(Stream& s, Tensor indices, Tensor counts, Tensor offsets, Tensor row_of_slot, Tensor slot_of_row);

/// Rows in another order: out[r] = x[index[r] / divisor]. With slot_of_row and top_k it sorts tokens by expert.
///   x [n, width] f32 | f64, index [rows] i32 below n * divisor, out [rows, width] out
/// Throws Error on a shape or dtype mismatch or an index out of range.
void gather_rows(Stream& s, Tensor x, Tensor index, int64_t divisor, Tensor out);

/// Sums rows into tokens, in slot order: y[t] = (base ? base[t] : 0) + sum over slots of rows[row_of_slot[t, slot]].
///   rows [n, width] f32 | f64, row_of_slot [tokens, slots] i32 below n, y [tokens, width] out
///   base [tokens, width] or empty; may alias y
/// Throws Error on a shape or dtype mismatch or an index out of range.
void combine_rows(Stream& s, Tensor rows, Tensor row_of_slot, Tensor base, Tensor y);

}  // namespace sluice
