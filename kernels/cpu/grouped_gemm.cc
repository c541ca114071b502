#include "kernels/grouped_gemm.h"

#include <cstring>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/multiply.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

/// Makes products one after the other, each knowing the next.
template <class T>
class ProductChain {
 public:
  explicit ProductChain(void* workspace) : workspace_(workspace) {}
  void add(const Product<T>& product) {
    if (waits_) multiply(workspace_, last_, &product);
    last_ = product;
    waits_ = true;
  }
  void finish() {
    if (waits_) multiply(workspace_, last_);
  }

 private:
  void* workspace_;
  Product<T> last_ = {};
  bool waits_ = false;
};

/// Makes product_of(expert, first row, rows) for the parts of the rows that each worker owns: rows are split evenly, so
/// a worker's share does not depend on how unevenly the experts are chosen.
template <class T, class ProductOf>
void for_each_row_part(Stream& s, Tensor offsets, const ProductOf& product_of) {
  const int64_t* first = offsets.as<int64_t>();
  const int64_t experts = offsets.count() - 1;
  parallel_for(s, first[experts], 16, [&](int64_t begin, int64_t end, int worker) {
    ProductChain<T> chain(s.pool->workspace(worker));
    for (int64_t e = 0; e < experts; ++e) {
      const int64_t from = first[e] > begin ? first[e] : begin, to = first[e + 1] < end ? first[e + 1] : end;
      if (from < to) chain.add(product_of(e, from, to - from));
    }
    chain.finish();
  });
}

}  // namespace

void grouped_linear_forward(Stream& s, Tensor x, Tensor w, Tensor offsets, Tensor y) {
  const int64_t out = w.dim(1), in = w.dim(2);
  dispatch_float(x.dtype, [&]<class T>() {
    for_each_row_part<T>(s, offsets, [&](int64_t e, int64_t row, int64_t rows) -> Product<T> {
      return {.a_transposed = false,
              .b_transposed = true,
              .m = rows,
              .n = out,
              .k = in,
              .a = x.as<T>() + row * in,
              .lda = in,
              .b = w.as<T>() + e * out * in,
              .ldb = in,
              .accumulate = false,
              .c = y.as<T>() + row * out,
              .ldc = out};
    });
  });
}

void grouped_linear_backward_input(Stream& s, Tensor dy, Tensor w, Tensor offsets, Tensor dx) {
  const int64_t out = w.dim(1), in = w.dim(2);
  dispatch_float(dx.dtype, [&]<class T>() {
    for_each_row_part<T>(s, offsets, [&](int64_t e, int64_t row, int64_t rows) -> Product<T> {
      return {.a_transposed = false,
              .b_transposed = false,
              .m = rows,
              .n = in,
              .k = out,
              .a = dy.as<T>() + row * out,
              .lda = out,
              .b = w.as<T>() + e * out * in,
              .ldb = in,
              .accumulate = false,
              .c = dx.as<T>() + row * in,
              .ldc = in};
    });
  });
}

void grouped_linear_backward_weight(Stream& s, Tensor dy, Tensor x, Tensor offsets, Tensor dw, bool accumulate) {
  const int64_t experts = dw.dim(0), out = dw.dim(1), in = dw.dim(2);
  const int64_t* first = offsets.as<int64_t>();
  dispatch_float(dw.dtype, [&]<class T>() {
    parallel_for(s, experts, 1, [&](int64_t begin, int64_t end, int worker) {
      ProductChain<T> chain(s.pool->workspace(worker));
      for (int64_t e = begin; e < end; ++e) {
        T* const dw_e = dw.as<T>() + e * out * in;
        if (first[e] < first[e + 1]) {
          chain.add({.a_transposed = true,
                     .b_transposed = false,
                     .m = out,
                     .n = in,
                     .k = first[e + 1] - first[e],
                     .a = dy.as<T>() + first[e] * out,
                     .lda = out,
                     .b = x.as<T>() + first[e] * in,
                     .ldb = in,
                     .accumulate = accumulate,
                     .c = dw_e,
                     .ldc = in});
        } else if (!accumulate) {
          std::memset(dw_e, 0, static_cast<size_t>(out * in) * sizeof(T));
        }
      }
      chain.finish();
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
