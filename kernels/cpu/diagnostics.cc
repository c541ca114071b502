#include "kernels/diagnostics.h"

#include <cmath>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/gate_activation.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

// Elements are summed in so many parts, whoever takes them, and the parts added in order.
constexpr int64_t kParts = 32;

template <int64_t kSums>
struct Sums {
  double values[kSums] = {};
};

/// fill(begin, end, sums) takes the sums of a part of [0, n); add(sums) gets them part after part.
template <int64_t kSums, class Fill, class Add>
void sum_in_parts(Stream& s, int64_t n, const Fill& fill, const Add& add) {
  Sums<kSums> sums[kParts];
  parallel_for(s, kParts, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t part = begin; part < end; ++part) fill(n * part / kParts, n * (part + 1) / kParts, sums[part].values);
  });
  for (const Sums<kSums>& part : sums) add(part.values);
}

inline double larger_of(double a, double b) { return a < b ? b : a; }

/// The bin of a score that is a number.
inline int64_t bin_of(double score) {
  const double bin = score * kScoreBins;
  return bin >= kScoreBins ? kScoreBins - 1 : bin < 0 ? 0 : static_cast<int64_t>(bin);
}

template <class T>
double probability(const AttentionInput& in, Tensor lse, int64_t query, int64_t head, int64_t key) {
  const int64_t heads = in.q.dim(1), kv_heads = in.k.dim(1), width = in.q.dim(2);
  const T* q = in.q.as<T>() + (query * heads + head) * width;
  const T* k = in.k.as<T>() + (key * kv_heads + head / (heads / kv_heads)) * width;
  LaneSum<T> dot;
  dot.add(width, [&](int64_t i) { return q[i] * k[i]; });
  return std::exp(static_cast<double>(dot.total()) * in.scale - static_cast<double>(lse.as<T>()[query * heads + head]));
}

}  // namespace

void first_key_attention(Stream& s, const AttentionInput& in, Tensor lse, int64_t skip, int64_t sink_span,
                         Tensor sums) {
  const int64_t heads = in.q.dim(1);
  const int32_t *queries = in.query_offsets.as<int32_t>(), *keys = in.key_offsets.as<int32_t>();
  const int32_t* positions = in.query_positions.as<int32_t>();
  dispatch_float(in.q.dtype, [&]<class T>() {
    parallel_for(s, heads, 1, [&](int64_t first_head, int64_t last_head, int) {
      for (int64_t head = first_head; head < last_head; ++head) {
        double* sum = sums.as<double>() + head * 4;
        for (int64_t d = 0; d + 1 < in.query_offsets.dim(0); ++d) {
          for (int64_t query = queries[d]; query < queries[d + 1]; ++query) {
            const int64_t position = positions[query];
            const bool counts = position >= skip, of_sink = position >= 1 && position <= sink_span;
            if (!counts && !of_sink) continue;
            const double share = probability<T>(in, lse, query, head, keys[d]);
            if (counts) sum[0] += share, sum[1] += 1;
            if (of_sink) sum[2] += share, sum[3] += 1;
          }
        }
      }
    });
  });
}

void attention_map(Stream& s, const AttentionInput& in, Tensor lse, Tensor map, Tensor rows) {
  const int64_t positions = map.dim(0), heads = in.q.dim(1);
  const int32_t *queries = in.query_offsets.as<int32_t>(), *keys = in.key_offsets.as<int32_t>();
  dispatch_float(in.q.dtype, [&]<class T>() {
    parallel_for(s, positions, 1, [&](int64_t first_row, int64_t last_row, int) {
      for (int64_t row = first_row; row < last_row; ++row) {
        double* sums = map.as<double>() + row * positions;
        for (int64_t d = 0; d + 1 < in.query_offsets.dim(0); ++d) {
          if (queries[d + 1] - queries[d] <= row) continue;
          for (int64_t head = 0; head < heads; ++head) {
            for (int64_t key = 0; key <= row; ++key) {
              sums[key] += probability<T>(in, lse, queries[d] + row, head, keys[d] + key);
            }
          }
          rows.as<double>()[row] += static_cast<double>(heads);
        }
      }
    });
  });
}

void score_sums(Stream& s, GateActivation activation, Tensor z, Tensor sums, Tensor extremes) {
  // The extremes follow the sums.
  constexpr int64_t kAll = kScoreSums + 2;
  dispatch_float(z.dtype, [&]<class T>() {
    dispatch_activation(activation, [&]<GateActivation kActivation>() {
      const auto fill = [&](int64_t begin, int64_t end, double* part) {
        part[kScoreSums] = part[kScoreSums + 1] = -HUGE_VAL;
        for (int64_t i = begin; i < end; ++i) {
          const double score = static_cast<double>(activate<kActivation>(z.as<T>()[i]).value);
          part[kScoreTotal] += score;
          part[kScoreSquares] += score * score;
          part[kScoresBelowTenth] += score < 0.1;
          part[kScoresBelowHalf] += score < 0.5;
          if (score == score) part[kScoreHistogram + bin_of(score)] += 1;
          part[kScoreSums] = larger_of(part[kScoreSums], score);
          part[kScoreSums + 1] = larger_of(part[kScoreSums + 1], -score);
        }
        part[kScoreCount] = static_cast<double>(end - begin);
      };
      sum_in_parts<kAll>(s, z.count(), fill, [&](const double* part) {
        for (int64_t i = 0; i < kScoreSums; ++i) sums.as<double>()[i] += part[i];
        for (int64_t i = 0; i < 2; ++i) {
          extremes.as<double>()[i] = larger_of(extremes.as<double>()[i], part[kScoreSums + i]);
        }
      });
    });
  });
}

void magnitude_sums(Stream& s, Tensor x, double factor, Tensor sums) {
  dispatch_float(x.dtype, [&]<class T>() {
    const auto fill = [&](int64_t begin, int64_t end, double* part) {
      for (int64_t i = begin; i < end; ++i) {
        const double scaled = static_cast<double>(x.as<T>()[i]) * factor, magnitude = scaled < 0 ? -scaled : scaled;
        part[kMagnitudeTotal] += magnitude;
        part[kBelowHundredth] += magnitude < 1e-2;
        part[kBelowThousandth] += magnitude < 1e-3;
      }
      part[kMagnitudeCount] = static_cast<double>(end - begin);
    };
    sum_in_parts<kMagnitudeSums>(s, x.count(), fill, [&](const double* part) {
      for (int64_t i = 0; i < kMagnitudeSums; ++i) sums.as<double>()[i] += part[i];
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
