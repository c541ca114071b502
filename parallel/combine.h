#pragma once

#include "parallel/process_group.h"

namespace sluice {

/// into[i] = into[i] op x[i] for n elements of a dtype (f32, f64, i32, i64). Throws Error for another dtype.
void combine(DType dtype, ReduceOp op, int64_t n, const void* x, void* into);

/// Part `part` of `parts` nearly equal parts of [0, n): begin; the end is the next part's begin.
inline int64_t part_begin(int64_t n, int part, int parts) { return n / parts * part + n % parts * part / parts; }

}  // namespace sluice
