// Speed of the products of the "large" speed comparison, in GF/s, beside what multiply-adds alone reach.
//   gemm_bench [rounds]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "kernels/core/thread_pool.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/peak.h"

namespace sluice {
namespace {

Tensor tensor(std::vector<float>& values, Shape shape) {
  values.resize(static_cast<size_t>(shape.count()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 37) % 101) / 101 - 0.5f;
  return {values.data(), DType::kF32, Device::kCpu, shape};
}

void report(const char* name, int rounds, double operations, const std::function<void()>& body) {
  std::vector<double> speeds;
  for (int i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    speeds.push_back(operations / elapsed.count() / 1e9);
  }
  std::sort(speeds.begin(), speeds.end());
  std::printf("%-44s %7.1f median %7.1f best\n", name, speeds[speeds.size() / 2], speeds.back());
}

void dense(Stream& s, int rounds, int64_t m, int64_t n, int64_t k) {
  std::vector<float> x_values, w_values, y_values, dw_values;
  const Tensor x = tensor(x_values, {m, k}), w = tensor(w_values, {n, k}), y = tensor(y_values, {m, n}),
               dw = tensor(dw_values, {n, k});
  const double operations = 2.0 * static_cast<double>(m * n * k);
  char name[80];
  std::snprintf(name, sizeof name, "x w^T [%ld, %ld] k=%ld", m, n, k);
  report(name, rounds, operations, [&] { gemm(s, Transpose::kNo, Transpose::kYes, x, w, y, false); });
  report("  dy w", rounds, operations, [&] { gemm(s, Transpose::kNo, Transpose::kNo, y, w, x, false); });
  report("  dy^T x, added", rounds, operations, [&] { gemm(s, Transpose::kYes, Transpose::kNo, y, x, dw, true); });
}

void grouped(Stream& s, int rounds, int64_t experts, int64_t rows_each, int64_t out, int64_t in) {
  std::vector<float> x_values, w_values, y_values, dw_values;
  std::vector<int64_t> first;
  for (int64_t e = 0; e <= experts; ++e) first.push_back(e * rows_each);
  const int64_t rows = first.back();
  const Tensor offsets{first.data(), DType::kI64, Device::kCpu, {experts + 1}};
  const Tensor x = tensor(x_values, {rows, in}), w = tensor(w_values, {experts, out, in}),
               y = tensor(y_values, {rows, out}), dw = tensor(dw_values, {experts, out, in});
  const double operations = 2.0 * static_cast<double>(rows * out * in);
  char name[80];
  std::snprintf(name, sizeof name, "%ld experts, %ld rows each, %ld from %ld", experts, rows_each, out, in);
  report(name, rounds, operations, [&] { grouped_linear_forward(s, x, w, offsets, y); });
  report("  dy w", rounds, operations, [&] { grouped_linear_backward_input(s, y, w, offsets, x); });
  report("  dy^T x, added", rounds, operations, [&] { grouped_linear_backward_weight(s, y, x, offsets, dw, true); });
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  using namespace sluice;
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 20;
  ThreadPool pool(1);
  Stream s{Device::kCpu, best_isa(), &pool};
  std::printf("%-44s %7.1f\n", "multiply-adds alone", measure_peak_flops(s) / 1e9);
  dense(s, rounds, 2048, 512, 512);
  dense(s, rounds, 2048, 128, 512);
  dense(s, rounds, 128, 8192, 512);
  grouped(s, rounds, 32, 256, 512, 512);
  grouped(s, rounds, 32, 256, 512, 256);
  grouped(s, rounds, 16, 256, 512, 256);
  grouped(s, rounds, 128, 64, 256, 512);
}
