#include "kernels/gemm_self_check.h"

#include <cmath>
#include <vector>

#include "kernels/core/philox.h"
#include "kernels/gemm.h"

namespace sluice {
namespace {

struct Product {
  Transpose a_transpose, b_transpose;
  int64_t m, n, k;
};

template <class T>
std::vector<T> random_matrix(int64_t count, uint64_t seed) {
  const Philox random(seed);
  std::vector<T> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(random.uniform(i) - 0.5);
  return values;
}

/// Largest difference from the scalar product.
template <class T>
double largest_error(Stream& s, const Product& p) {
  std::vector<T> a = random_matrix<T>(p.m * p.k, 1), b = random_matrix<T>(p.k * p.n, 2),
                 c(static_cast<size_t>(p.m * p.n));
  const bool ta = p.a_transpose == Transpose::kYes, tb = p.b_transpose == Transpose::kYes;
  const auto matrix = [](std::vector<T>& v, int64_t rows, int64_t columns) {
    return Tensor{v.data(), dtype_of<T>(), Device::kCpu, {rows, columns}};
  };
  gemm(s, p.a_transpose, p.b_transpose, ta ? matrix(a, p.k, p.m) : matrix(a, p.m, p.k),
       tb ? matrix(b, p.n, p.k) : matrix(b, p.k, p.n), matrix(c, p.m, p.n));
  double worst = 0;
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < p.k; ++l) {
        sum += static_cast<double>(a[static_cast<size_t>(ta ? l * p.m + i : i * p.k + l)]) *
               static_cast<double>(b[static_cast<size_t>(tb ? j * p.k + l : l * p.n + j)]);
      }
      const double error = std::abs(sum - static_cast<double>(c[static_cast<size_t>(i * p.n + j)]));
      // A NaN must count as wrong.
      if (!(error <= worst)) worst = error;
    }
  }
  return worst;
}

}  // namespace

void gemm_self_check(Stream& s) {
  const auto yes = Transpose::kYes, no = Transpose::kNo;
  for (const auto& [ta, tb] : {std::pair{no, no}, {no, yes}, {yes, no}}) {
    for (const Product& p : {Product{ta, tb, 37, 65, 48}, Product{ta, tb, 96, 33, 70}, Product{ta, tb, 1, 7, 300}}) {
      const double f32 = largest_error<float>(s, p), f64 = largest_error<double>(s, p);
      ENSURE(f32 < 1e-4 && f64 < 1e-12, "this machine multiplies matrices wrongly with instruction set ",
             isa_name(s.isa), " (off by ", f32, " in f32, ", f64, " in f64); set cpu.isa to another one");
    }
  }
}

}  // namespace sluice
