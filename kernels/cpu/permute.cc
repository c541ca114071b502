#include "kernels/permute.h"

#include <cstring>

#include "kernels/core/parallel_for.h"

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

void gather_rows(Stream& s, Tensor x, Tensor index, int64_t divisor, Tensor out) {
  const int32_t* from_row = index.as<int32_t>();
  const int64_t row_bytes = x.dim(1) * dtype_bytes(x.dtype);
  const char* from = static_cast<const char*>(x.data);
  char* to = static_cast<char*>(out.data);
  parallel_for(s, index.count(), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(to + r * row_bytes, from + from_row[r] / divisor * row_bytes, static_cast<size_t>(row_bytes));
    }
  });
}

void combine_rows(Stream& s, Tensor rows, Tensor row_of_slot, Tensor base, Tensor y) {
  const int64_t width = y.dim(1), slots = row_of_slot.dim(1);
  const int32_t* row_of = row_of_slot.as<int32_t>();
  dispatch_float(y.dtype, [&]<class T>() {
    const T* start = base ? base.as<T>() : nullptr;
    parallel_for(s, y.dim(0), 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        T* to = y.as<T>() + t * width;
        if (!start) std::memset(to, 0, static_cast<size_t>(width) * sizeof(T));
        if (start && start + t * width != to) {
          std::memcpy(to, start + t * width, static_cast<size_t>(width) * sizeof(T));
        }
        for (int64_t k = 0; k < slots; ++k) {
          const T* __restrict from = rows.as<T>() + row_of[t * slots + k] * width;
          T* __restrict out = to;
          for (int64_t i = 0; i < width; ++i) out[i] += from[i];
        }
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
