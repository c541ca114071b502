#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <vector>

#include "kernels/adamw.h"
#include "kernels/core/arena.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/gate.h"
#include "kernels/permute.h"
#include "kernels/reduce.h"
#include "kernels/router.h"
#include "kernels/swiglu.h"

// Nanoseconds an element and GB/s of every memory-bound op in f32, on one thread.
// Usage: elementwise_bench [isa]
namespace sluice {
namespace {

constexpr int64_t kTokens = 1024, kHidden = 512, kExperts = 64, kTopK = 8, kVocab = 16000, kParameters = 16 << 20;

class Buffers {
 public:
  Tensor make(DType dtype, Shape shape) {
    storage_.emplace_back(static_cast<size_t>(shape.count() * dtype_bytes(dtype)) / sizeof(Line) + 1);
    return {storage_.back().data(), dtype, Device::kCpu, shape};
  }
  Tensor floats(Shape shape) {
    Tensor t = make(DType::kF32, shape);
    for (int64_t i = 0; i < t.count(); ++i) t.as<float>()[i] = 0.001f * static_cast<float>(i * 7919 % 4001 - 2000);
    return t;
  }
  Tensor below(int64_t limit, Shape shape) {
    Tensor t = make(DType::kI32, shape);
    for (int64_t i = 0; i < t.count(); ++i) t.as<int32_t>()[i] = static_cast<int32_t>(i * 7919 % limit);
    return t;
  }

 private:
  struct alignas(Arena::kAlignmentBytes) Line {
    std::byte bytes[Arena::kAlignmentBytes];
  };
  std::vector<std::vector<Line>> storage_;
};

/// Prints the best time of several, until a fifth of a second is spent.
void measure(const char* name, int64_t elements, int64_t bytes_per_element, const std::function<void()>& op) {
  using Clock = std::chrono::steady_clock;
  op();
  double best_ns = 1e18, spent_ns = 0;
  while (spent_ns < 2e8) {
    const auto start = Clock::now();
    op();
    const double ns = std::chrono::duration<double, std::nano>(Clock::now() - start).count();
    best_ns = std::min(best_ns, ns);
    spent_ns += ns;
  }
  const double per_element = best_ns / static_cast<double>(elements);
  std::printf("%-28s %8.3f ns/element %8.1f GB/s\n", name, per_element,
              static_cast<double>(bytes_per_element) / per_element);
}

void bench_elementwise(Stream& s, Buffers& b) {
  Tensor x = b.floats({kTokens, kHidden}), y = b.floats({kTokens, kHidden}), z = b.floats({kTokens, kHidden});
  Tensor half = b.make(DType::kBF16, {kTokens, kHidden}), wide = b.make(DType::kF64, {kTokens, kHidden});
  const int64_t n = x.count();
  measure("add", n, 12, [&] { add(s, x, y, z); });
  measure("fill_zero", n, 4, [&] { fill_zero(s, z); });
  measure("scale", n, 8, [&] { scale(s, z, 1.0); });
  measure("cast to bf16", n, 6, [&] { cast(s, x, half); });
  measure("cast to f64", n, 12, [&] { cast(s, x, wide); });
}

void bench_activations(Stream& s, Buffers& b) {
  Tensor gu = b.floats({kTokens, 2 * kHidden}), y = b.floats({kTokens, kHidden}),
         dgu = b.floats({kTokens, 2 * kHidden}), activated = b.floats({kTokens, kHidden});
  measure("swiglu forward", y.count(), 12, [&] { swiglu_forward(s, gu, {}, y); });
  measure("swiglu backward", y.count(), 24, [&] { swiglu_backward(s, y, gu, {}, activated, dgu, {}); });
  const Shape heads{kTokens, 8, kHidden / 8};
  Tensor v = b.floats(heads), z = b.floats(heads), out = b.floats(heads), dz = b.floats(heads);
  const GateOp op;
  measure("gate elementwise forward", v.count(), 12, [&] { gate_forward(s, op, v, z, out); });
  measure("gate elementwise backward", v.count(), 20, [&] { gate_backward(s, op, v, v, z, out, dz); });
  Tensor score = b.floats({kTokens, 8, 1}), dscore = b.floats({kTokens, 8, 1});
  measure("gate headwise forward", v.count(), 8, [&] { gate_forward(s, op, v, score, out); });
  measure("gate headwise backward", v.count(), 12, [&] { gate_backward(s, op, v, v, score, out, dscore); });
}

void bench_routing(Stream& s, Buffers& b) {
  Tensor logits = b.floats({kTokens, kExperts}), probs = b.floats({kTokens, kExperts}), lse = b.floats({kTokens});
  Tensor indices = b.below(kExperts, {kTokens, kTopK}), weights = b.floats({kTokens, kTopK});
  Tensor dweights = b.floats({kTokens, kTopK}), balance = b.floats({kExperts}), dlogits = b.floats({kTokens, kExperts});
  Tensor counts = b.make(DType::kI64, {kExperts}), offsets = b.make(DType::kI64, {kExperts + 1});
  Tensor prob_sums = b.make(DType::kF64, {kExperts}), moments = b.make(DType::kF64, {2});
  measure("router forward", logits.count(), 8,
          [&] { router_forward(s, logits, {}, true, probs, lse, indices, weights, counts); });
  const RouterGradient in{dweights, probs, lse, indices, weights, balance, 1e-3, true};
  measure("router backward", logits.count(), 8, [&] { router_backward(s, in, dlogits); });
  measure("router sums", logits.count(), 4, [&] { router_sums(s, probs, lse, prob_sums, moments); });

  Tensor row_of_slot = b.make(DType::kI32, {kTokens, kTopK}), slot_of_row = b.make(DType::kI32, {kTokens * kTopK});
  Tensor x = b.floats({kTokens, kHidden}), rows = b.floats({kTokens * kTopK, kHidden});
  measure("permute plan", indices.count(), 12,
          [&] { permute_plan(s, indices, counts, offsets, row_of_slot, slot_of_row); });
  measure("gather rows", rows.count(), 8, [&] { gather_rows(s, x, slot_of_row, kTopK, rows); });
  measure("combine rows", rows.count(), 4, [&] { combine_rows(s, rows, row_of_slot, {}, x); });
}

void bench_vocabulary(Stream& s, Buffers& b) {
  Tensor tokens = b.below(kVocab, {kTokens}), w = b.floats({kVocab, kHidden}), y = b.floats({kTokens, kHidden});
  measure("embedding forward", y.count(), 8, [&] { embedding_forward(s, tokens, w, {0, kVocab}, y); });
  measure("embedding backward", y.count(), 12, [&] { embedding_backward(s, tokens, y, {0, kVocab}, w); });
  Tensor logits = b.floats({128, kVocab}), targets = b.below(kVocab, {128}), losses = b.make(DType::kF64, {128});
  measure("cross-entropy, loss only", logits.count(), 4, [&] { cross_entropy(s, logits, targets, 0, losses); });
  measure("cross-entropy", logits.count(), 8, [&] { cross_entropy(s, logits, targets, 1, losses); });
}

void bench_optimizer(Stream& s, Buffers& b) {
  const Shape n{kParameters};
  Tensor w = b.floats(n), g = b.floats(n), m = b.floats(n), v = b.make(DType::kF32, n);
  Tensor out = b.make(DType::kF64, {1}), clip = b.make(DType::kF64, {1}), skip = b.make(DType::kI32, {1});
  clip.as<double>()[0] = 1;
  AdamW op;
  op.lr = 1e-4;
  measure("adamw", kParameters, 28, [&] { adamw(s, op, w, g, m, v, clip, skip); });
  measure("sum_squares", kParameters, 4, [&] { sum_squares(s, g, out); });
  measure("max_abs", kParameters, 4, [&] { max_abs(s, g, out); });
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  using namespace sluice;
  ThreadPool pool(1);
  Stream s{Device::kCpu, parse_isa(argc > 1 ? argv[1] : "auto"), &pool};
  std::printf("isa %s, one thread, f32\n", isa_name(s.isa));
  for (auto* bench : {bench_elementwise, bench_activations, bench_routing, bench_vocabulary, bench_optimizer}) {
    Buffers buffers;
    bench(s, buffers);
  }
}
