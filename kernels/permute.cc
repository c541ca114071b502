#include "kernels/permute.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void permute_plan(Stream& s, Tensor indices, Tensor counts, Tensor offsets, Tensor row_of_slot,
                                  Tensor slot_of_row);
                void permute_forward(Stream& s, Tensor x, Tensor slot_of_row, int64_t top_k, Tensor rows);
                void permute_backward(Stream& s, Tensor drows, Tensor row_of_slot, Tensor dx, bool accumulate);
                void unpermute_forward(Stream& s, Tensor rows, Tensor weights, Tensor row_of_slot, Tensor residual,
                                       Tensor y);
                void unpermute_backward(Stream& s, Tensor dy, Tensor rows, Tensor weights, Tensor row_of_slot,
                                        Tensor drows, Tensor dweights);)

namespace sluice {
namespace {

void check_rows(Tensor rows, Tensor row_of_slot, Tensor tokens) {
  expect("row_of_slot", row_of_slot, DType::kI32, {tokens.dim(0), row_of_slot.dim(1)});
  expect("rows", rows, tokens.dtype, {row_of_slot.count(), tokens.dim(1)});
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
  if (!s.is_cuda()) check_assignments(indices, counts, offsets);
  SLUICE_DISPATCH(s, permute_plan(s, indices, counts, offsets, row_of_slot, slot_of_row));
}

void permute_forward(Stream& s, Tensor x, Tensor slot_of_row, int64_t top_k, Tensor rows) {
  expect("slot_of_row", slot_of_row, DType::kI32, {x.dim(0) * top_k});
  expect("rows", rows, x.dtype, {x.dim(0) * top_k, x.dim(1)});
  SLUICE_DISPATCH(s, permute_forward(s, x, slot_of_row, top_k, rows));
}

void permute_backward(Stream& s, Tensor drows, Tensor row_of_slot, Tensor dx, bool accumulate) {
  check_rows(drows, row_of_slot, dx);
  SLUICE_DISPATCH(s, permute_backward(s, drows, row_of_slot, dx, accumulate));
}

void unpermute_forward(Stream& s, Tensor rows, Tensor weights, Tensor row_of_slot, Tensor residual, Tensor y) {
  check_rows(rows, row_of_slot, y);
  expect("weights", weights, y.dtype, row_of_slot.shape);
  if (residual) expect("residual", residual, y.dtype, y.shape);
  SLUICE_DISPATCH(s, unpermute_forward(s, rows, weights, row_of_slot, residual, y));
}

void unpermute_backward(Stream& s, Tensor dy, Tensor rows, Tensor weights, Tensor row_of_slot, Tensor drows,
                        Tensor dweights) {
  check_rows(rows, row_of_slot, dy);
  expect("weights", weights, dy.dtype, row_of_slot.shape);
  expect("drows", drows, dy.dtype, rows.shape);
  expect("dweights", dweights, dy.dtype, row_of_slot.shape);
  SLUICE_DISPATCH(s, unpermute_backward(s, dy, rows, weights, row_of_slot, drows, dweights));
}

}  // namespace sluice
