#include "kernels/router.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void router_forward(Stream& s, Tensor logits, Tensor bias, bool normalize, Tensor probs, Tensor lse,
                                    Tensor indices, Tensor weights, Tensor counts);
                void update_selection_bias(Stream& s, Tensor counts, double rate, Tensor bias);
                void router_backward(Stream& s, const RouterGradient& in, Tensor dlogits);
                void router_sums(Stream& s, Tensor probs, Tensor lse, Tensor prob_sums, Tensor moments);)

namespace sluice {
namespace {

void check_experts(int64_t experts) {
  INVARIANT(experts <= kMaxExperts, "logits: ", experts, " experts, at most ", kMaxExperts, " fit");
}

}  // namespace

void router_forward(Stream& s, Tensor logits, Tensor bias, bool normalize, Tensor probs, Tensor lse, Tensor indices,
                    Tensor weights, Tensor counts) {
  const int64_t tokens = logits.dim(0), experts = logits.dim(1), top_k = indices.dim(1);
  if (bias) expect("bias", bias, logits.dtype, {experts});
  expect("probs", probs, logits.dtype, {tokens, experts});
  expect("lse", lse, logits.dtype, {tokens});
  expect("indices", indices, DType::kI32, {tokens, top_k});
  expect("weights", weights, logits.dtype, {tokens, top_k});
  expect("counts", counts, DType::kI64, {experts});
  INVARIANT(top_k >= 1 && top_k <= experts, "indices: top_k = ", top_k, " of ", experts, " experts");
  check_experts(experts);
  if (s.planner) s.planner->choose(counts, indices.count());
  SLUICE_DISPATCH(router_forward, s, logits, bias, normalize, probs, lse, indices, weights, counts);
}

void update_selection_bias(Stream& s, Tensor counts, double rate, Tensor bias) {
  expect("counts", counts, DType::kI64, {counts.dim(0)});
  expect("bias", bias, bias.dtype, counts.shape);
  SLUICE_DISPATCH(update_selection_bias, s, counts, rate, bias);
}

void router_backward(Stream& s, const RouterGradient& in, Tensor dlogits) {
  const int64_t tokens = in.probs.dim(0), experts = in.probs.dim(1), top_k = in.indices.dim(1);
  const DType dtype = in.probs.dtype;
  INVARIANT(exact_dtype(dlogits.dtype) == dtype, "dlogits: ", dtype_name(dlogits.dtype),
            ", probs: ", dtype_name(dtype));
  expect("dweights", in.dweights, dtype, {tokens, top_k});
  expect("lse", in.lse, dtype, {tokens});
  expect("indices", in.indices, DType::kI32, {tokens, top_k});
  expect("weights", in.weights, dtype, {tokens, top_k});
  expect("balance_gradient", in.balance_gradient, dtype, {experts});
  expect("dlogits", dlogits, dlogits.dtype, {tokens, experts});
  check_experts(experts);
  SLUICE_DISPATCH(router_backward, s, in, dlogits);
}

void router_sums(Stream& s, Tensor probs, Tensor lse, Tensor prob_sums, Tensor moments) {
  expect("lse", lse, probs.dtype, {probs.dim(0)});
  expect("prob_sums", prob_sums, DType::kF64, {probs.dim(1)});
  expect("moments", moments, DType::kF64, {2});
  SLUICE_DISPATCH(router_sums, s, probs, lse, prob_sums, moments);
}

}  // namespace sluice
