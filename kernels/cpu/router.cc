#include "kernels/router.h"

#include <cmath>
#include <cstring>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

/// The largest number.
template <class T>
constexpr T kLargest = sizeof(T) == 4 ? T(3.4028234e38) : T(1.7976931348623157e308);

/// The smallest normal number.
template <class T>
constexpr T kSmallest = sizeof(T) == 4 ? T(1.17549435e-38) : T(2.2250738585072014e-308);

/// probs = softmax(logits); returns the log-sum-exp.
template <class T>
T softmax_row(const T* logits, T* probs, int64_t experts) {
  const T most = largest(logits, experts, logits[0]);
  LaneSum<T> sum;
  sum.add(experts, [&](int64_t i) { return probs[i] = exponential(logits[i] - most); });
  const T total = sum.total();
  const T factor = T(1) / total;
  for (int64_t i = 0; i < experts; ++i) probs[i] *= factor;
  return most + std::log(total);
}

/// An expert and its probability, ordered by rank: a larger probability first, then a lower index.
template <class T>
struct Candidate {
  T prob;
  typename Vector<T>::Integer expert;

  bool before(const Candidate& other) const {
    return prob > other.prob || (prob == other.prob && expert < other.expert);
  }
};

/// The first of all candidates that rank after `last`. Nothing is crossed off: a store followed by a wider load stalls.
template <class T>
Candidate<T> next_best(const T* probs, int64_t experts, Candidate<T> last) {
  using V = Vector<T>;
  Candidate<T> best{-kLargest<T>, 0};
  const auto bound = typename V::Numbers{} + last.prob;
  const auto bound_at = typename V::Integers{} + last.expert;
  auto most = typename V::Numbers{} + best.prob;
  typename V::Integers at = {}, here = {};
  for (int lane = 0; lane < V::kLanes; ++lane) here[lane] = lane;
  int64_t i = 0;
  for (; i + V::kLanes <= experts; i += V::kLanes, here += V::kLanes) {
    typename V::Numbers next;
    std::memcpy(&next, probs + i, sizeof next);
    const auto better = (next > most) & ((next < bound) | ((next == bound) & (here > bound_at)));
    most = better ? next : most;
    at = better ? here : at;
  }
  const auto take = [&](Candidate<T> other) {
    if (last.before(other) && other.before(best)) best = other;
  };
  for (int lane = 0; lane < V::kLanes; ++lane) take({most[lane], at[lane]});
  for (; i < experts; ++i) take({probs[i], static_cast<typename V::Integer>(i)});
  return best;
}

/// The top_k largest of probs + bias, best first, ties to the lower index; NaN comes last. `score` is scratch for a
/// row.
template <class T>
void choose(const T* probs, const T* bias, int64_t experts, int64_t top_k, T* score, int32_t* chosen) {
  constexpr T kLast = -kLargest<T> / 2;
  if (bias) {
    for (int64_t i = 0; i < experts; ++i) score[i] = probs[i] >= 0 ? probs[i] + bias[i] : kLast;
  } else {
    for (int64_t i = 0; i < experts; ++i) score[i] = probs[i] >= 0 ? probs[i] : kLast;
  }
  Candidate<T> last{kLargest<T>, 0};
  for (int64_t k = 0; k < top_k; ++k) {
    last = next_best(score, experts, last);
    chosen[k] = static_cast<int32_t>(last.expert);
  }
}

template <class T>
void weigh(const T* probs, const int32_t* chosen, int64_t top_k, bool normalize, T* weights) {
  T sum = 0;
  for (int64_t k = 0; k < top_k; ++k) sum += weights[k] = probs[chosen[k]];
  if (!normalize) return;
  for (int64_t k = 0; k < top_k; ++k) weights[k] /= sum;
}

/// dprobs of one token into d, from the weights and the balance loss; dlogits then follow from the softmax.
template <class T>
void backward_row(const RouterGradient& in, const T* dweights, const T* probs, T lse, const int32_t* chosen,
                  const T* weights, int64_t experts, int64_t top_k, T* dprobs, T* dlogits) {
  const T* balance = in.balance_gradient.as<T>();
  for (int64_t i = 0; i < experts; ++i) dprobs[i] = balance[i];
  T weighted = 0, chosen_sum = 1;
  if (in.normalize) {
    chosen_sum = 0;
    for (int64_t k = 0; k < top_k; ++k) weighted += dweights[k] * weights[k], chosen_sum += probs[chosen[k]];
  }
  for (int64_t k = 0; k < top_k; ++k) dprobs[chosen[k]] += (dweights[k] - weighted) / chosen_sum;

  LaneSum<T> mean;
  mean.add(experts, [&](int64_t i) { return dprobs[i] * probs[i]; });
  // d(lse^2)/d(logit i) = 2 lse probs[i]
  const T shift = mean.total() - static_cast<T>(2 * in.z_gradient) * lse;
  for (int64_t i = 0; i < experts; ++i) dlogits[i] = probs[i] * (dprobs[i] - shift);
}

}  // namespace

void router_forward(Stream& s, Tensor logits, Tensor bias, bool normalize, Tensor probs, Tensor lse, Tensor indices,
                    Tensor weights, Tensor counts) {
  const int64_t tokens = logits.dim(0), experts = logits.dim(1), top_k = indices.dim(1);
  int32_t* chosen = indices.as<int32_t>();
  dispatch_float(logits.dtype, [&]<class T>() {
    parallel_for(s, tokens, 16, [&](int64_t begin, int64_t end, int worker) {
      T* score = static_cast<T*>(s.pool->workspace(worker));
      const T* added = bias ? bias.as<T>() : nullptr;
      for (int64_t t = begin; t < end; ++t) {
        T* row = probs.as<T>() + t * experts;
        lse.as<T>()[t] = softmax_row(logits.as<T>() + t * experts, row, experts);
        choose(row, added, experts, top_k, score, chosen + t * top_k);
        weigh(row, chosen + t * top_k, top_k, normalize, weights.as<T>() + t * top_k);
      }
    });
  });
  int64_t* n = counts.as<int64_t>();
  for (int64_t e = 0; e < experts; ++e) n[e] = 0;
  for (int64_t i = 0; i < tokens * top_k; ++i) ++n[chosen[i]];
}

void update_selection_bias(Stream&, Tensor counts, double rate, Tensor bias) {
  const int64_t experts = counts.count();
  const int64_t* n = counts.as<int64_t>();
  int64_t total = 0;
  for (int64_t e = 0; e < experts; ++e) total += n[e];
  dispatch_float(bias.dtype, [&]<class T>() {
    for (int64_t e = 0; e < experts; ++e) {
      // The mean need not be whole.
      const int64_t missing = total - n[e] * experts;
      bias.as<T>()[e] += static_cast<T>(rate) * static_cast<T>((missing > 0) - (missing < 0));
    }
  });
}

void router_backward(Stream& s, const RouterGradient& in, Tensor dlogits) {
  const int64_t experts = in.probs.dim(1), top_k = in.indices.dim(1);
  dispatch_float(in.probs.dtype, [&]<class T>() {
    parallel_for(s, in.probs.dim(0), 16, [&](int64_t begin, int64_t end, int worker) {
      T* dprobs = static_cast<T*>(s.pool->workspace(worker));
      for (int64_t t = begin; t < end; ++t) {
        backward_row(in, in.dweights.as<T>() + t * top_k, in.probs.as<T>() + t * experts, in.lse.as<T>()[t],
                     in.indices.as<int32_t>() + t * top_k, in.weights.as<T>() + t * top_k, experts, top_k, dprobs,
                     dlogits.as<T>() + t * experts);
      }
    });
  });
}

void router_sums(Stream& s, Tensor probs, Tensor lse, Tensor prob_sums, Tensor moments) {
  const int64_t tokens = probs.dim(0), experts = probs.dim(1);
  double* sums = prob_sums.as<double>();
  dispatch_float(probs.dtype, [&]<class T>() {
    const T* p = probs.as<T>();
    // A column belongs to one worker, so that tokens are added in their order.
    parallel_for(s, experts, 8, [&](int64_t begin, int64_t end, int) {
      for (int64_t e = begin; e < end; ++e) sums[e] = 0;
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t e = begin; e < end; ++e) sums[e] += static_cast<double>(p[t * experts + e]);
      }
    });
    double squares = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      const double l = static_cast<double>(lse.as<T>()[t]);
      squares += l * l;
    }
    // A probability of 0 adds 0: its logarithm is taken of the smallest normal number instead.
    LaneSum<double> entropy;
    entropy.add(tokens * experts, [&](int64_t i) {
      const T safe = p[i] > kSmallest<T> ? p[i] : kSmallest<T>;
      return -static_cast<double>(p[i] * logarithm(safe));
    });
    moments.as<double>()[0] = squares;
    moments.as<double>()[1] = entropy.total();
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
