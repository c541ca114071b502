#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "kernels/attention.h"
#include "kernels/peak.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"

// Causal attention in f32 as a share of the peak of fused multiply-adds, counting only the pairs that the causal mask
// leaves; rms_norm and rope in GB/s.
// Usage: attention_bench [isa] [threads]
namespace sluice {
namespace {

class Buffers {
 public:
  Tensor floats(Shape shape) {
    Tensor t = make(DType::kF32, shape);
    for (int64_t i = 0; i < t.count(); ++i) t.as<float>()[i] = 0.001f * static_cast<float>(i * 7919 % 2003 - 1001);
    return t;
  }
  /// 0, step, 2 step, ... taken modulo `period`.
  Tensor counting(int64_t n, int64_t step, int64_t period) {
    Tensor t = make(DType::kI32, {n});
    for (int64_t i = 0; i < n; ++i) t.as<int32_t>()[i] = static_cast<int32_t>(i * step % period);
    return t;
  }

 private:
  Tensor make(DType dtype, Shape shape) {
    storage_.emplace_back(static_cast<size_t>(shape.count() * dtype_bytes(dtype) / 8 + 1));
    return {storage_.back().data(), dtype, Device::kCpu, shape};
  }
  std::vector<std::vector<double>> storage_;
};

/// The best time in seconds of several, until a third of a second is spent.
double best_seconds(const std::function<void()>& op) {
  using Clock = std::chrono::steady_clock;
  op();
  double best = 1e9, spent = 0;
  while (spent < 0.3) {
    const auto start = Clock::now();
    op();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

struct AttentionCase {
  int64_t batch, length, query_heads, kv_heads, head_dim;
};

void bench_attention(Stream& s, const AttentionCase& c) {
  Buffers b;
  const int64_t tokens = c.batch * c.length;
  const Shape queries{tokens, c.query_heads, c.head_dim}, keys{tokens, c.kv_heads, c.head_dim};
  const Tensor offsets = b.counting(c.batch + 1, c.length, tokens + 1);
  const AttentionInput in{b.floats(queries),
                          b.floats(keys),
                          b.floats(keys),
                          offsets,
                          offsets,
                          b.counting(tokens, 1, c.length),
                          1 / std::sqrt(static_cast<double>(c.head_dim))};
  const Tensor out = b.floats(queries), lse = b.floats({tokens, c.query_heads}), delta = b.floats(lse.shape);
  const Tensor dout = b.floats(queries), dq = b.floats(queries), dk = b.floats(keys), dv = b.floats(keys);

  const double pairs = static_cast<double>(c.batch * c.query_heads * c.length * (c.length + 1) / 2);
  const double product_flops = 2 * pairs * static_cast<double>(c.head_dim);
  const auto report = [&](const char* name, double products, const std::function<void()>& op) {
    const double peak = measure_peak_flops(s);
    const double seconds = best_seconds(op);
    const double flops = products * product_flops / seconds;
    std::printf("%-8s batch %2ld length %4ld heads %ld on %ld of %3ld: %8.3f ms %7.1f GF/s %5.1f %% of %.0f\n", name,
                c.batch, c.length, c.query_heads, c.kv_heads, c.head_dim, 1e3 * seconds, flops / 1e9,
                100 * flops / peak, peak / 1e9);
  };
  report("forward", 2, [&] { attention_forward(s, in, out, lse); });
  report("backward", 5, [&] { attention_backward(s, in, out, lse, dout, delta, dq, dk, dv); });
}

void bench_rms_norm(Stream& s, int64_t rows, int64_t width) {
  Buffers b;
  const Tensor x = b.floats({rows, width}), y = b.floats(x.shape), dy = b.floats(x.shape), dx = b.floats(x.shape);
  const Tensor w = b.floats({width}), dw = b.floats({width}), rstd = b.floats({rows});
  const double gigabytes = static_cast<double>(x.bytes()) / 1e9;
  const double forward = best_seconds([&] { rms_norm_forward(s, x, w, 1e-6, y, rstd); });
  const double backward = best_seconds([&] { rms_norm_backward(s, dy, x, w, rstd, dx, dw); });
  std::printf("rms_norm %6ld x %4ld: forward %5.1f GB/s, backward %5.1f GB/s\n", rows, width, 2 * gigabytes / forward,
              3 * gigabytes / backward);
}

void bench_rope(Stream& s, int64_t tokens, int64_t heads, int64_t head_dim) {
  Buffers b;
  const Tensor x = b.floats({tokens, heads, head_dim}), positions = b.counting(tokens, 1, 512);
  const Tensor cosine = b.floats({512, head_dim / 2}), sine = b.floats({512, head_dim / 2});
  const double seconds = best_seconds([&] { rope_forward(s, x, positions, cosine, sine, x); });
  std::printf("rope %ld x %ld x %ld in place: %5.1f GB/s\n", tokens, heads, head_dim,
              2 * static_cast<double>(x.bytes()) / 1e9 / seconds);
}

void run(Stream& s) {
  std::printf("%s, %d threads\n", isa_name(s.isa), s.pool->threads());
  for (const AttentionCase& c : {AttentionCase{8, 256, 8, 2, 32}, AttentionCase{4, 512, 8, 2, 64},
                                 AttentionCase{4, 512, 8, 8, 64}, AttentionCase{1, 2048, 8, 2, 128}}) {
    bench_attention(s, c);
  }
  bench_rms_norm(s, 2048, 512);
  bench_rms_norm(s, 16384, 32);
  bench_rms_norm(s, 16384, 64);
  bench_rope(s, 2048, 8, 32);
  bench_rope(s, 2048, 8, 64);
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  sluice::ThreadPool pool(argc > 2 ? std::atoi(argv[2]) : 1);
  sluice::Stream s{sluice::Device::kCpu, argc > 1 ? sluice::parse_isa(argv[1]) : sluice::best_isa(), &pool};
  sluice::run(s);
}
