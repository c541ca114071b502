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

/// Gathers tokens into expert order: rows[r] = x[slot_of_row[r] / top_k].
///   x [tokens, hidden] f32 | f64, slot_of_row [rows] i32, rows [rows, hidden] out
void permute_forward(Stream& s, Tensor x, Tensor slot_of_row, int64_t top_k, Tensor rows);

/// dx[t] = sum over slots of drows[row_of_slot[t, slot]], in slot order (added to dx when `accumulate`).
void permute_backward(Stream& s, Tensor drows, Tensor row_of_slot, Tensor dx, bool accumulate = false);

/// Combines expert outputs: y[t] = (residual ? residual[t] : 0) + sum over slots of weights[t, slot] *
/// rows[row_of_slot[t, slot]].
///   rows [rows, hidden], weights [tokens, top_k], row_of_slot [tokens, top_k] i32, y [tokens, hidden] out
///   residual [tokens, hidden] or empty; may alias y
void unpermute_forward(Stream& s, Tensor rows, Tensor weights, Tensor row_of_slot, Tensor residual, Tensor y);

/// drows[row] = weights[t, slot] * dy[t] and dweights[t, slot] = <dy[t], rows[row]>, where row = row_of_slot[t, slot].
///   drows [rows, hidden] out, may alias rows; dweights [tokens, top_k] out
void unpermute_backward(Stream& s, Tensor dy, Tensor rows, Tensor weights, Tensor row_of_slot, Tensor drows,
                        Tensor dweights);

}  // namespace sluice
