#pragma once

#include <vector>

#include "kernels/core/arena.h"

namespace sluice {

/// Keys (after norm and RoPE) and values of one layer, for one sequence.
struct LayerCache {
  Tensor k, v;         ///< [capacity, kv_heads, head_dim]
  int64_t length = 0;  ///< tokens held
};

}  // namespace sluice
