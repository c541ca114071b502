#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

/// A finished run: its parameters (active or total), the tokens that it was trained on, and its loss in nats.
struct ScalingPoint {
  double parameters = 0, tokens = 0, loss = 0;
};

/// L(N, D) = E + A / N^alpha + B / D^beta [hoffmann2022 eq. 2].
struct ScalingLaw {
  double e = 0, a = 0, b = 0, alpha = 0, beta = 0;

  double loss(double parameters, double tokens) const;
  /// Where the loss is least of all runs with `flops_per_parameter` N D = flops: dL/dN = 0.
  double best_parameters(double flops, double flops_per_parameter = 6) const;
};
inline constexpr int kLawConstants = 5;
inline constexpr std::array<const char*, kLawConstants> kLawNames = {"E", "A", "B", "alpha", "beta"};
std::array<double, kLawConstants> constants_of(const ScalingLaw& law);

/// The law with the least sum of Huber losses of log L - log L(N, D) [hoffmann2022 eq. 3], found from many starts.
/// Throws Error when why_no_law() has something to say, or a point is not positive.
///   huber  where a residual's loss turns from square to linear
ScalingLaw fit_scaling_law(const std::vector<ScalingPoint>& points, double huber = 1e-3);

/// Of runs of one size and length that with the least loss: what the others have too much is of their learning rates.
std::vector<ScalingPoint> best_points(const std::vector<ScalingPoint>& runs);

/// What lacks for a law: six points, two sizes, two lengths; empty: nothing.
std::string why_no_law(const std::vector<ScalingPoint>& points);

struct Interval {
  double low = 0, high = 0;
  bool holds(double value) const { return low <= value && value <= high; }
};

/// A law, and how well the points know it.
class ScalingFit {
 public:
  /// Fits the points, then `draws` samples of as many of them with replacement.
  ScalingFit(const std::vector<ScalingPoint>& points, int draws, uint64_t seed, double huber = 1e-3);

  const ScalingLaw& law() const { return law_; }
  /// In the order of kLawNames; `level` of the samples lie within.
  std::array<Interval, kLawConstants> intervals(double level = 0.95) const;
  /// The loss of such a run, with the scatter of runs around the law.
  Interval loss(double parameters, double tokens, double level = 0.95) const;
  /// Of ScalingLaw::best_parameters.
  Interval best_parameters(double flops, double flops_per_parameter = 6, double level = 0.95) const;
  /// log L - log L(N, D) of each point.
  const std::vector<double>& residuals() const { return residuals_; }

 private:
  ScalingLaw law_;
  std::vector<ScalingLaw> samples_;
  std::vector<double> residuals_;
};

/// The least of a parabola through the losses of runs with about the same operations, over log parameters
/// [hoffmann2022 approach 2].
struct IsoFlop {
  double flops = 0;            ///< geometric mean
  double best_parameters = 0;  ///< where the parabola is least; 0: it has no least between the smallest and the largest
  double best_loss = 0;
  int64_t runs = 0;
};
/// Runs whose operations differ by less than `within` (a ratio) belong together; groups of fewer than three are left
/// out.
std::vector<IsoFlop> iso_flops(const std::vector<ScalingPoint>& points, double flops_per_parameter = 6,
                               double within = 1.3);

}  // namespace sluice
