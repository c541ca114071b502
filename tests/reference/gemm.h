#pragma once

#include <cstdint>
#include <vector>

namespace sluice::reference {

struct Product {
  bool a_transposed, b_transposed;
  int64_t m, n, k;
};

/// op(a) op(b), row-major: a [m, k] or, transposed, [k, m]; b [k, n] or [n, k].
template <class T>
std::vector<T> gemm(const Product& p, const std::vector<T>& a, const std::vector<T>& b) {
  std::vector<T> c(static_cast<size_t>(p.m * p.n));
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      T sum = 0;
      for (int64_t l = 0; l < p.k; ++l) {
        sum += a.at(static_cast<size_t>(p.a_transposed ? l * p.m + i : i * p.k + l)) *
               b.at(static_cast<size_t>(p.b_transposed ? j * p.k + l : l * p.n + j));
      }
      c[static_cast<size_t>(i * p.n + j)] = sum;
    }
  }
  return c;
}

/// Linear layers of experts: rows [offsets[e], offsets[e+1]) of x [rows, in] times w[e] [out, in] transposed.
template <class T>
std::vector<T> grouped_linear(const std::vector<T>& x, const std::vector<T>& w, const std::vector<int64_t>& offsets,
                              int64_t in, int64_t out) {
  std::vector<T> y;
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    for (int64_t row = offsets[e]; row < offsets[e + 1]; ++row) {
      for (int64_t o = 0; o < out; ++o) {
        T sum = 0;
        for (int64_t i = 0; i < in; ++i) {
          sum += x.at(static_cast<size_t>(row * in + i)) *
                 w.at(static_cast<size_t>((static_cast<int64_t>(e) * out + o) * in + i));
        }
        y.push_back(sum);
      }
    }
  }
  return y;
}

}  // namespace sluice::reference
