#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Compares small products of this stream's instruction set, in f32 and f64 and in all forms, with a scalar loop: some
/// builds of BLAS libraries are wrong on some processors. A few milliseconds. Throws Error naming the instruction set.
void gemm_self_check(Stream& s);

}  // namespace sluice
