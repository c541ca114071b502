#include "kernels/permute.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void permute_plan(Stream& s, Tensor indices, Tensor counts, Tensor offsets, Tensor row_of_slot,
                                  Tensor slot_of_row);
                void gather_rows(Stream& s, Tensor x, Tensor index, int64_t divisor, Tensor out);
                void combine_rows(Stream& s, Tensor rows, Tensor row_of_slot, Tensor base, Tensor y);)

namespace sluice {
namespace {

void check_below(const char* name, Tensor index, int64_t limit) {
  const int32_t* values = index.as<int32_t>();
  for (int64_t i = 0; i < index.count(); ++i) {
    INVARIANT(values[i] >= 0 && values[i] < limit, name, ": row ", values[i], " of ", limit);
  }
}

/// The plan writes where the counts say, so they must belong to the indices. `seen` [experts + 1] is scratch.
void check_assignments(Tensor indices, Tensor counts, Tensor seen) {
  const int64_t experts = counts.count();
  int64_t* found = seen.as<int64_t>();
  for (int64_t e = 0; e < experts; ++e) found[e] = 0;
  for (int64_t i = 0; i < indices.count(); ++i) {
    const int32_t expert = indices.as<int32_t>()[i];
    INVARIANT(expert >= 0 && expert < experts, "indices: expert ", expert, " of ", experts);
    ++found[expert];
  }
  for (int64_t e = 0; e < experts; ++e) {
    INVARIANT(found[e] == counts.as<int64_t>()[e], "counts: expert ", e, " has ", found[e], " rows, not ",
              counts.as<int64_t>()[e]);
  }
}

}  // namespace

void permute_plan(Stream& s, Tensor indices, Tensor counts, Tensor offsets, Tensor row_of_slot, Tensor slot_of_row) {
  const int64_t experts = counts.count();
  expect("indices", indices, DType::kI32, {indices.dim(0), indices.dim(1)});
  expect("counts", counts, DType::kI64, {experts});
  expect("offsets", offsets, DType::kI64, {experts + 1});
  expect("row_of_slot", row_of_slot, DType::kI32, indices.shape);
  expect("slot_of_row", slot_of_row, DType::kI32, {indices.count()});
  if (s.on_host()) check_assignments(indices, counts, offsets);
  SLUICE_DISPATCH(permute_plan, s, indices, counts, offsets, row_of_slot, slot_of_row);
}

void gather_rows(Stream& s, Tensor x, Tensor index, int64_t divisor, Tensor out) {
  INVARIANT(divisor >= 1, "gather_rows: divisor ", divisor);
  expect("index", index, DType::kI32, {out.dim(0)});
  expect("out", out, x.dtype, {out.dim(0), x.dim(1)});
  if (s.on_host()) check_below("index", index, x.dim(0) * divisor);
  SLUICE_DISPATCH_WITH_COST((OpCost{"gather_rows", 0, bytes_of_tensors(out, index, out)}), gather_rows, s, x, index,
                            divisor, out);
}

void combine_rows(Stream& s, Tensor rows, Tensor row_of_slot, Tensor base, Tensor y) {
  expect("row_of_slot", row_of_slot, DType::kI32, {y.dim(0), row_of_slot.dim(1)});
  expect("rows", rows, y.dtype, {rows.dim(0), y.dim(1)});
  if (base) expect("base", base, y.dtype, y.shape);
  if (s.on_host()) check_below("row_of_slot", row_of_slot, rows.dim(0));
  SLUICE_DISPATCH(combine_rows, s, rows, row_of_slot, base, y);
}

}  // namespace sluice
