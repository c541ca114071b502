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

/// The larger one; NaN if either is.
inline double larger_or_nan(double a, double b) { return a >= b || a != a ? a : b; }

// Scores are taken in blocks, by loops that the compiler vectorises.
constexpr int64_t kScoreBlock = 256;

/// Sums over scores; the bin behind the last one counts NaN.
class Scores {
 public:
  explicit Scores(ScoreRange range) : range_(range) {}

  /// n <= kScoreBlock
  template <GateActivation kActivation, class T>
  void add_block(const T* z, int64_t n) {
    T scores[kScoreBlock], negated[kScoreBlock];
    for (int64_t i = 0; i < n; ++i) {
      scores[i] = activate<kActivation>(z[i]).value;
      negated[i] = -scores[i];
    }
    LaneSum<T> total, squares;
    total.add(n, [&](int64_t i) { return scores[i]; });
    squares.add(n, [&](int64_t i) { return scores[i] * scores[i]; });
    int32_t below_tenth = 0, below_half = 0;
    for (int64_t i = 0; i < n; ++i) below_tenth += scores[i] < T(0.1), below_half += scores[i] < T(0.5);
    sums_[kScoreCount] += static_cast<double>(n);
    sums_[kScoreTotal] += static_cast<double>(total.total());
    sums_[kScoreSquares] += static_cast<double>(squares.total());
    sums_[kScoresBelowTenth] += below_tenth;
    sums_[kScoresBelowHalf] += below_half;
    most_ = static_cast<double>(largest(scores, n, static_cast<T>(most_)));
    most_negated_ = static_cast<double>(largest(negated, n, static_cast<T>(most_negated_)));
    count_bins(scores, n);
  }
  /// Adds the sums and then raises the extremes behind them.
  void write(double* part) const {
    for (int64_t i = 0; i < kScoreHistogram; ++i) part[i] += sums_[i];
    for (int64_t i = 0; i < kScoreBins; ++i) {
      for (int copy = 0; copy < kCopies; ++copy) part[kScoreHistogram + i] += bins_[copy][i];
    }
    part[kScoreSums] = most_;
    part[kScoreSums + 1] = most_negated_;
  }

 private:
  // Neighbours of one bin do not wait for each other.
  static constexpr int kCopies = 4;

  template <class T>
  void count_bins(const T* scores, int64_t n) {
    const T lowest = static_cast<T>(range_.lowest),
            bins_a_unit = static_cast<T>(kScoreBins / (range_.highest - range_.lowest));
    int32_t bin[kScoreBlock];
    for (int64_t i = 0; i < n; ++i) {
      T place = (scores[i] - lowest) * bins_a_unit;
      place = place < T(0) ? T(0) : place;
      place = place < T(kScoreBins - 1) ? place : T(kScoreBins - 1);
      bin[i] = scores[i] == scores[i] ? static_cast<int32_t>(place) : static_cast<int32_t>(kScoreBins);
    }
    for (int64_t i = 0; i < n; ++i) ++bins_[i % kCopies][bin[i]];
  }

  const ScoreRange range_;
  double sums_[kScoreHistogram] = {};
  int32_t bins_[kCopies][kScoreBins + 1] = {};
  double most_ = -HUGE_VAL, most_negated_ = -HUGE_VAL;
};

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

void first_key_attention(Stream& s, const AttentionInput& in, Tensor lse, int64_t every, int64_t skip,
                         int64_t sink_span, Tensor sums) {
  const int64_t heads = in.q.dim(1);
  const int32_t *queries = in.query_offsets.as<int32_t>(), *keys = in.key_offsets.as<int32_t>();
  const int32_t* positions = in.query_positions.as<int32_t>();
  dispatch_float(in.q.dtype, [&]<class T>() {
    parallel_for(s, heads, 1, [&](int64_t first_head, int64_t last_head, int) {
      for (int64_t head = first_head; head < last_head; ++head) {
        double* sum = sums.as<double>() + head * kFirstKeySums;
        for (int64_t d = 0; d + 1 < in.query_offsets.dim(0); ++d) {
          if (queries[d] == queries[d + 1]) continue;
          const bool has_sink = positions[queries[d + 1] - 1] >= sink_span;
          const int64_t first = (queries[d] + every - 1) / every * every;
          for (int64_t query = first; query < queries[d + 1]; query += every) {
            const int64_t position = positions[query];
            const bool counts = position >= skip, of_sink = has_sink && position >= 1 && position <= sink_span;
            if (!counts && !of_sink) continue;
            const double share = probability<T>(in, lse, query, head, keys[d]);
            if (counts) {
              sum[kFirstKeyTotal] += share;
              sum[kFirstKeyUniform] += 1 / static_cast<double>(position + 1);
              sum[kFirstKeyQueries] += 1;
            }
            if (of_sink) sum[kSinkTotal] += share, sum[kSinkQueries] += 1;
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

void score_sums(Stream& s, GateActivation activation, Tensor z, int64_t every, ScoreRange range, Tensor sums,
                Tensor extremes) {
  // The extremes follow the sums.
  constexpr int64_t kAll = kScoreSums + 2;
  const int64_t rows = z.dim(0), width = rows ? z.count() / rows : 0;
  dispatch_float(z.dtype, [&]<class T>() {
    dispatch_activation(activation, [&]<GateActivation kActivation>() {
      const auto fill = [&](int64_t begin, int64_t end, double* part) {
        Scores scores(range);
        const auto add = [&](int64_t first, int64_t count) {
          for (int64_t i = first; i < first + count; i += kScoreBlock) {
            scores.add_block<kActivation>(z.as<T>() + i, smaller(kScoreBlock, first + count - i));
          }
        };
        if (every == 1) {
          add(begin * width, (end - begin) * width);
        } else {
          for (int64_t row = begin; row < end; ++row) add(row * every * width, width);
        }
        scores.write(part);
      };
      sum_in_parts<kAll>(s, (rows + every - 1) / every, fill, [&](const double* part) {
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

void massive_rows(Stream& s, Tensor x, double floor, double medians, Tensor count) {
  const int64_t width = x.dim(1);
  dispatch_float(x.dtype, [&]<class T>() {
    const auto fill = [&](int64_t begin, int64_t end, double* part) {
      for (int64_t row = begin; row < end; ++row) {
        const T* values = x.as<T>() + row * width;
        T largest = 0;
        for (int64_t i = 0; i < width; ++i) {
          const T magnitude = values[i] < 0 ? -values[i] : values[i];
          largest = magnitude > largest ? magnitude : largest;
        }
        if (!(static_cast<double>(largest) > floor)) continue;
        // The median is no larger than this if more than half of the elements are not.
        const T limit = static_cast<T>(static_cast<double>(largest) / medians);
        int64_t small = 0;
        for (int64_t i = 0; i < width; ++i) small += values[i] <= limit && -values[i] <= limit;
        part[0] += small > width / 2;
      }
    };
    sum_in_parts<1>(s, x.dim(0), fill, [&](const double* part) { *count.as<double>() += part[0]; });
  });
}

void largest_element(Stream& s, Tensor x, Tensor out) {
  *out.as<double>() = -HUGE_VAL;
  dispatch_float(x.dtype, [&]<class T>() {
    const auto fill = [&](int64_t begin, int64_t end, double* part) {
      part[0] = -HUGE_VAL;
      for (int64_t i = begin; i < end; ++i) part[0] = larger_or_nan(part[0], static_cast<double>(x.as<T>()[i]));
    };
    sum_in_parts<1>(s, x.count(), fill,
                    [&](const double* part) { *out.as<double>() = larger_or_nan(*out.as<double>(), part[0]); });
  });
}

void count_choices(Stream&, Tensor indices, Tensor counts) {
  const int32_t* chosen = indices.as<int32_t>();
  for (int64_t i = 0; i < indices.count(); ++i) counts.as<double>()[chosen[i]] += 1;
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
