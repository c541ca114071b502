#pragma once

#include <span>

#include "parallel/process_group.h"

namespace sluice {

/// out[i] = terms[0][i] op terms[1][i] op ..., from left to right, for n elements of a dtype (f32, f64, i32, i64).
/// `out` may be one of the terms. Throws Error for another dtype.
void combine(DType dtype, ReduceOp op, int64_t n, std::span<const void* const> terms, void* out);

/// Part `part` of `parts` nearly equal parts of [0, n): begin; the end is the next part's begin.
inline int64_t part_begin(int64_t n, int part, int parts) { return n / parts * part + n % parts * part / parts; }

}  // namespace sluice
