#include "kernels/permute.h"

#include <cstring>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

void permute_plan(Stream&, Tensor indices, Tensor counts, Tensor offsets, Tensor row_of_slot, Tensor slot_of_row) {
  const int64_t experts = counts.count();
  const int32_t* chosen = indices.as<int32_t>();
  int64_t* first = offsets.as<int64_t>();
  first[0] = 0;
  for (int64_t e = 0; e < experts; ++e) first[e + 1] = first[e] + counts.as<int64_t>()[e];
  // first[e] runs through expert e's rows and is put back afterwards.
  for (int64_t slot = 0; slot < indices.count(); ++slot) {
    const int64_t row = first[chosen[slot]]++;
    row_of_slot.as<int32_t>()[slot] = static_cast<int32_t>(row);
    slot_of_row.as<int32_t>()[row] = static_cast<int32_t>(slot);
  }
  for (int64_t e = experts; e > 0; --e) first[e] = first[e - 1];
  first[0] = 0;
}

void permute_forward(Stream& s, Tensor x, Tensor slot_of_row, int64_t top_k, Tensor rows) {
  const int32_t* slots = slot_of_row.as<int32_t>();
  const int64_t row_bytes = x.dim(1) * dtype_bytes(x.dtype);
  const char* from = static_cast<const char*>(x.data);
  char* to = static_cast<char*>(rows.data);
  parallel_for(s, slot_of_row.count(), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(to + r * row_bytes, from + slots[r] / top_k * row_bytes, static_cast<size_t>(row_bytes));
    }
  });
}

void permute_backward(Stream& s, Tensor drows, Tensor row_of_slot, Tensor dx, bool accumulate) {
  const int64_t hidden = dx.dim(1), top_k = row_of_slot.dim(1);
  const int32_t* row_of = row_of_slot.as<int32_t>();
  dispatch_float(dx.dtype, [&]<class T>() {
    parallel_for(s, dx.dim(0), 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        T* __restrict to = dx.as<T>() + t * hidden;
        if (!accumulate) std::memset(to, 0, static_cast<size_t>(hidden) * sizeof(T));
        for (int64_t k = 0; k < top_k; ++k) {
          const T* __restrict from = drows.as<T>() + row_of[t * top_k + k] * hidden;
          for (int64_t i = 0; i < hidden; ++i) to[i] += from[i];
        }
      }
    });
  });
}

void unpermute_forward(Stream& s, Tensor rows, Tensor weights, Tensor row_of_slot, Tensor residual, Tensor y) {
  const int64_t hidden = y.dim(1), top_k = row_of_slot.dim(1);
  const int32_t* row_of = row_of_slot.as<int32_t>();
  dispatch_float(y.dtype, [&]<class T>() {
    const T* base = residual ? residual.as<T>() : nullptr;
    parallel_for(s, y.dim(0), 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        T* to = y.as<T>() + t * hidden;
        if (!base) std::memset(to, 0, static_cast<size_t>(hidden) * sizeof(T));
        if (base && base + t * hidden != to)
          std::memcpy(to, base + t * hidden, static_cast<size_t>(hidden) * sizeof(T));
        for (int64_t k = 0; k < top_k; ++k) {
          const T* __restrict from = rows.as<T>() + row_of[t * top_k + k] * hidden;
          const T weight = weights.as<T>()[t * top_k + k];
          T* __restrict out = to;
          for (int64_t i = 0; i < hidden; ++i) out[i] = multiply_add(weight, from[i], out[i]);
        }
      }
    });
  });
}

void unpermute_backward(Stream& s, Tensor dy, Tensor rows, Tensor weights, Tensor row_of_slot, Tensor drows,
                        Tensor dweights) {
  const int64_t hidden = dy.dim(1), top_k = row_of_slot.dim(1);
  const int32_t* row_of = row_of_slot.as<int32_t>();
  dispatch_float(dy.dtype, [&]<class T>() {
    parallel_for(s, dy.dim(0), 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const T* d = dy.as<T>() + t * hidden;
        for (int64_t k = 0; k < top_k; ++k) {
          const int64_t slot = t * top_k + k;
          const T* row = rows.as<T>() + row_of[slot] * hidden;
          LaneSum<T> dot;
          dot.add(hidden, [&](int64_t i) { return d[i] * row[i]; });
          dweights.as<T>()[slot] = dot.total();
          T* out = drows.as<T>() + row_of[slot] * hidden;
          const T weight = weights.as<T>()[slot];
#pragma GCC ivdep
          for (int64_t i = 0; i < hidden; ++i) out[i] = weight * d[i];
        }
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
