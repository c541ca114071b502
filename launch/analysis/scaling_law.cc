#include "launch/analysis/scaling_law.h"

#include <algorithm>
#include <ceres/ceres.h>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/philox.h"

namespace sluice {
namespace {

/// log of the law in constants that do not move together: the terms at the centre of the points, in logs, and
/// exponents.
///   terms  log E, log (A / N0^alpha), log (B / D0^beta)
struct Centred {
  std::array<double, 3> terms;
  std::array<double, 2> exponents;
};

struct Centre {
  explicit Centre(const std::vector<ScalingPoint>& points) {
    for (const ScalingPoint& p : points) log_n += std::log(p.parameters), log_d += std::log(p.tokens);
    log_n /= static_cast<double>(points.size());
    log_d /= static_cast<double>(points.size());
  }
  double log_n = 0, log_d = 0;
};

/// log(L(N, D) / L) of a point.
struct Residual {
  Residual(const ScalingPoint& p, const Centre& centre)
      : n(std::log(p.parameters) - centre.log_n), d(std::log(p.tokens) - centre.log_d), log_loss(std::log(p.loss)) {}

  template <class T>
  bool operator()(const T* terms, const T* exponents, T* residual) const {
    using std::exp;
    using std::log;
    const T of_n = terms[1] - exponents[0] * n, of_d = terms[2] - exponents[1] * d;
    // Relative to the largest: a step too far must not overflow.
    T most = terms[0];
    if (of_n > most) most = of_n;
    if (of_d > most) most = of_d;
    residual[0] = most + log(exp(terms[0] - most) + exp(of_n - most) + exp(of_d - most)) - log_loss;
    return true;
  }
  double n, d, log_loss;
};

struct Solution {
  Centred at;
  double cost = std::numeric_limits<double>::infinity();
};

Solution solve(const std::vector<ScalingPoint>& points, const Centre& centre, const Centred& start, double huber) {
  Solution solution{start, 0};
  ceres::Problem::Options shared;
  shared.loss_function_ownership = ceres::DO_NOT_TAKE_OWNERSHIP;
  ceres::HuberLoss loss(huber);
  ceres::Problem problem(shared);
  for (const ScalingPoint& p : points) {
    problem.AddResidualBlock(new ceres::AutoDiffCostFunction<Residual, 1, 3, 2>(new Residual(p, centre)), &loss,
                             solution.at.terms.data(), solution.at.exponents.data());
  }
  for (int i = 0; i < 2; ++i) {
    problem.SetParameterLowerBound(solution.at.exponents.data(), i, 0);
    problem.SetParameterUpperBound(solution.at.exponents.data(), i, 3);
  }
  ceres::Solver::Options options;
  options.linear_solver_type = ceres::DENSE_QR;
  options.max_num_iterations = 200;
  options.function_tolerance = 1e-10;
  options.logging_type = ceres::SILENT;
  ceres::Solver::Summary summary;
  ceres::Solve(options, &problem, &summary);
  solution.cost = summary.IsSolutionUsable() ? summary.final_cost : std::numeric_limits<double>::infinity();
  return solution;
}

/// Shares of the least loss that E and the two other terms may have at the centre, and exponents.
std::vector<Centred> starts(const std::vector<ScalingPoint>& points) {
  double least = std::numeric_limits<double>::infinity();
  for (const ScalingPoint& p : points) least = std::min(least, p.loss);
  std::vector<Centred> all;
  for (const double e : {0.2, 0.5, 0.8, 0.95}) {
    for (const double n_share : {0.3, 0.7}) {
      for (const double alpha : {0.1, 0.35, 0.7}) {
        for (const double beta : {0.1, 0.35, 0.7}) {
          const double rest = least * (1.1 - e);
          all.push_back(
              {{std::log(e * least), std::log(rest * n_share), std::log(rest * (1 - n_share))}, {alpha, beta}});
        }
      }
    }
  }
  return all;
}

Solution best_of(const std::vector<ScalingPoint>& points, const Centre& centre, const std::vector<Centred>& starts,
                 double huber) {
  Solution best;
  for (const Centred& start : starts) {
    const Solution found = solve(points, centre, start, huber);
    if (found.cost < best.cost) best = found;
  }
  ENSURE(std::isfinite(best.cost), "no scaling law fits these runs");
  return best;
}

ScalingLaw law_of(const Centred& at, const Centre& centre) {
  ScalingLaw law;
  law.e = std::exp(at.terms[0]);
  law.a = std::exp(at.terms[1] + at.exponents[0] * centre.log_n);
  law.b = std::exp(at.terms[2] + at.exponents[1] * centre.log_d);
  law.alpha = at.exponents[0];
  law.beta = at.exponents[1];
  return law;
}

void check(const std::vector<ScalingPoint>& points) {
  const std::string why = why_no_law(points);
  ENSURE(why.empty(), why);
  for (const ScalingPoint& p : points) {
    const bool positive = p.parameters > 0 && p.tokens > 0 && p.loss > 0;
    ENSURE(positive && std::isfinite(p.parameters + p.tokens + p.loss), "a run of ", p.parameters, " parameters, ",
           p.tokens, " tokens and loss ", p.loss, ": all must be finite and above 0");
  }
}

Interval quantiles(std::vector<double> values, double level) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) return {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const size_t below = static_cast<size_t>(place), above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {at((1 - level) / 2), at((1 + level) / 2)};
}

}  // namespace

double ScalingLaw::loss(double parameters, double tokens) const {
  return e + a / std::pow(parameters, alpha) + b / std::pow(tokens, beta);
}

double ScalingLaw::best_parameters(double flops, double flops_per_parameter) const {
  const double product = flops / flops_per_parameter;
  return std::pow(alpha * a / (beta * b), 1 / (alpha + beta)) * std::pow(product, beta / (alpha + beta));
}

std::array<double, kLawConstants> constants_of(const ScalingLaw& law) {
  return {law.e, law.a, law.b, law.alpha, law.beta};
}

std::vector<ScalingPoint> best_points(const std::vector<ScalingPoint>& runs) {
  std::map<std::pair<double, double>, double> best;
  for (const ScalingPoint& run : runs) {
    const auto [at, is_new] = best.try_emplace({run.parameters, run.tokens}, run.loss);
    if (!is_new) at->second = std::min(at->second, run.loss);
  }
  std::vector<ScalingPoint> points;
  for (const auto& [key, loss] : best) points.push_back({key.first, key.second, loss});
  return points;
}

std::string why_no_law(const std::vector<ScalingPoint>& points) {
  constexpr size_t kFewest = kLawConstants + 1, kFewestOfEach = 2;
  std::set<double> sizes, lengths;
  for (const ScalingPoint& point : points) {
    sizes.insert(point.parameters);
    lengths.insert(point.tokens);
  }
  if (points.size() < kFewest) {
    return concat("a scaling law needs at least ", kFewest, " finished runs of different sizes or lengths, there are ",
                  points.size());
  }
  if (sizes.size() < kFewestOfEach || lengths.size() < kFewestOfEach) {
    return concat("a scaling law needs runs of at least ", kFewestOfEach, " sizes and ", kFewestOfEach,
                  " numbers of tokens, there are ", sizes.size(), " and ", lengths.size());
  }
  return "";
}

ScalingLaw fit_scaling_law(const std::vector<ScalingPoint>& points, double huber) {
  check(points);
  const Centre centre(points);
  return law_of(best_of(points, centre, starts(points), huber).at, centre);
}

ScalingFit::ScalingFit(const std::vector<ScalingPoint>& points, int draws, uint64_t seed, double huber) {
  check(points);
  const Centre centre(points);
  const Solution best = best_of(points, centre, starts(points), huber);
  law_ = law_of(best.at, centre);
  for (const ScalingPoint& p : points)
    residuals_.push_back(std::log(p.loss) - std::log(law_.loss(p.parameters, p.tokens)));
  const Philox random(seed, "bootstrap");
  std::vector<ScalingPoint> sample(points.size());
  for (int draw = 0; draw < draws; ++draw) {
    for (size_t i = 0; i < sample.size(); ++i) {
      const double place = random.uniform(i, static_cast<uint64_t>(draw)) * static_cast<double>(points.size());
      sample[i] = points[std::min(points.size() - 1, static_cast<size_t>(place))];
    }
    // From the law itself, and from one with each exponent changed: samples may have their least elsewhere.
    std::vector<Centred> from(3, best.at);
    from[1].exponents[0] *= 1.3;
    from[2].exponents[1] *= 1.3;
    try {
      samples_.push_back(law_of(best_of(sample, centre, from, huber).at, centre));
    } catch (const Error&) {
      // A sample of few different runs may have no law.
    }
  }
}

std::array<Interval, kLawConstants> ScalingFit::intervals(double level) const {
  std::array<Interval, kLawConstants> all;
  for (size_t i = 0; i < all.size(); ++i) {
    std::vector<double> values;
    for (const ScalingLaw& sample : samples_) values.push_back(constants_of(sample)[i]);
    all[i] = quantiles(std::move(values), level);
  }
  return all;
}

Interval ScalingFit::loss(double parameters, double tokens, double level) const {
  std::vector<double> values;
  // Every sample's law with some of the scatter.
  for (size_t i = 0; i < samples_.size(); ++i) {
    const double scatter = residuals_[i % residuals_.size()];
    values.push_back(samples_[i].loss(parameters, tokens) * std::exp(scatter));
  }
  return quantiles(std::move(values), level);
}

Interval ScalingFit::best_parameters(double flops, double flops_per_parameter, double level) const {
  std::vector<double> values;
  for (const ScalingLaw& sample : samples_) values.push_back(sample.best_parameters(flops, flops_per_parameter));
  return quantiles(std::move(values), level);
}

namespace {

/// The parabola of least squares of y over x, in powers of x, at least three of them.
std::array<double, 3> parabola(const std::vector<double>& x, const std::vector<double>& y) {
  Eigen::MatrixXd powers(x.size(), 3);
  Eigen::VectorXd values(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const auto row = static_cast<Eigen::Index>(i);
    powers.row(row) << 1, x[i], x[i] * x[i];
    values(row) = y[i];
  }
  const Eigen::VectorXd found = powers.colPivHouseholderQr().solve(values);
  return {found(0), found(1), found(2)};
}

IsoFlop least_of(const std::vector<ScalingPoint>& group, double flops_per_parameter) {
  IsoFlop iso;
  iso.runs = static_cast<int64_t>(group.size());
  std::vector<double> x, y;
  for (const ScalingPoint& p : group) {
    x.push_back(std::log(p.parameters));
    y.push_back(p.loss);
    iso.flops += std::log(flops_per_parameter * p.parameters * p.tokens) / static_cast<double>(group.size());
  }
  iso.flops = std::exp(iso.flops);
  const auto [smallest, largest] = std::minmax_element(x.begin(), x.end());
  const std::array<double, 3> c = parabola(x, y);
  const double at = -c[1] / (2 * c[2]);
  if (c[2] <= 0 || !(at >= *smallest && at <= *largest)) return iso;
  iso.best_parameters = std::exp(at);
  iso.best_loss = c[0] + c[1] * at + c[2] * at * at;
  return iso;
}

}  // namespace

std::vector<IsoFlop> iso_flops(const std::vector<ScalingPoint>& points, double flops_per_parameter, double within) {
  std::vector<ScalingPoint> sorted = points;
  const auto product = [](const ScalingPoint& p) { return p.parameters * p.tokens; };
  std::sort(sorted.begin(), sorted.end(),
            [&](const ScalingPoint& a, const ScalingPoint& b) { return product(a) < product(b); });
  std::vector<IsoFlop> all;
  constexpr size_t kFewest = 3;
  for (size_t begin = 0, end; begin < sorted.size(); begin = end) {
    end = begin;
    while (end < sorted.size() && product(sorted[end]) <= within * product(sorted[begin])) ++end;
    if (end - begin < kFewest) continue;
    const auto first = sorted.begin() + static_cast<std::ptrdiff_t>(begin);
    all.push_back(least_of({first, first + static_cast<std::ptrdiff_t>(end - begin)}, flops_per_parameter));
  }
  return all;
}

}  // namespace sluice
