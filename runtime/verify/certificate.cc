#include "runtime/verify/certificate.h"

#include <algorithm>
#include <cmath>

#include "parallel/thread_group.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

constexpr double kRelative = 1e-12, kOfGlobalGradient = 1e-15;

double norm(const std::vector<double>& x) {
  double squares = 0;
  for (double value : x) squares += value * value;
  return std::sqrt(squares);
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double squares = 0;
  for (size_t i = 0; i < a.size(); ++i) squares += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(squares);
}

/// Collects comparisons.
class Comparer {
 public:
  /// `slack` is allowed beside what is relative to `reference`, both absolute.
  void numbers(const SeenTensor& seen, const std::vector<double>& reference, double slack = 0) {
    within(seen.name, seen.after, distance(seen.values, reference), norm(reference), slack);
  }
  void number(const std::string& name, const std::string& after, double value, double reference) {
    within(name, after, std::abs(value - reference), std::abs(reference), 0);
  }
  void within(const std::string& name, const std::string& after, double difference, double size, double slack) {
    const double scale = size > 0 ? size : 1;
    // Written so that a NaN on either side is a difference.
    const bool equal = difference <= kRelative * size + slack;
    certificate.comparisons.push_back({name, after, difference / scale, kRelative + slack / scale, equal});
  }
  void counts(const std::string& name, const std::string& after, const std::vector<int64_t>& value,
              const std::vector<int64_t>& reference) {
    certificate.comparisons.push_back({name, after, value == reference ? 0.0 : 1.0, 0, value == reference});
  }

  Certificate certificate;
};

/// Micro-steps of one rank that make up micro-step `index` of the layout, one tensor after another.
std::vector<double> joined(const Evidence& one_rank, size_t index, size_t together, size_t tensor) {
  std::vector<double> values;
  for (size_t i = index * together; i < (index + 1) * together; ++i) {
    const std::vector<double>& part = one_rank.stream.at(i).at(tensor).values;
    values.insert(values.end(), part.begin(), part.end());
  }
  return values;
}

void compare_stream(Comparer& comparer, const Evidence& layout, const Evidence& one_rank) {
  const size_t together = one_rank.stream.size() / layout.stream.size();
  for (size_t i = 0; i < layout.stream.size(); ++i) {
    for (size_t j = 0; j < layout.stream[i].size(); ++j) {
      SeenTensor seen = layout.stream[i][j];
      seen.name = concat("micro-step ", i + 1, ", ", seen.name);
      comparer.numbers(seen, joined(one_rank, i, together, j));
    }
  }
}

void compare_losses(Comparer& comparer, size_t step, const Evidence::Step& layout, const Evidence::Step& one_rank) {
  const std::string prefix = concat("step ", step, ", ");
  comparer.number(prefix + "lm_loss", layout.after, layout.lm_loss, one_rank.lm_loss);
  comparer.number(prefix + "balance_loss", layout.after, layout.balance_loss, one_rank.balance_loss);
  comparer.number(prefix + "z_loss", layout.after, layout.z_loss, one_rank.z_loss);
  comparer.number(prefix + "loss", layout.after, layout.loss, one_rank.loss);
  comparer.counts(prefix + "expert counts", layout.after, layout.expert_counts, one_rank.expert_counts);
}

void compare_norms(Comparer& comparer, size_t step, const Evidence::Step& layout, const Evidence::Step& one_rank) {
  const std::string prefix = concat("step ", step, ", ");
  comparer.number(prefix + "gradient norm", layout.after, layout.grad_norm, one_rank.grad_norm);
  comparer.number(prefix + "clip factor", layout.after, layout.clip_factor, one_rank.clip_factor);
}

void compare_gradients(Comparer& comparer, const Evidence& layout, const Evidence& one_rank) {
  double squares = 0;
  for (const SeenTensor& gradient : one_rank.gradients) squares += std::pow(norm(gradient.values), 2);
  for (size_t i = 0; i < layout.gradients.size(); ++i) {
    SeenTensor seen = layout.gradients[i];
    seen.name = "gradient of " + seen.name;
    comparer.numbers(seen, one_rank.gradients.at(i).values, kOfGlobalGradient * std::sqrt(squares));
  }
}

void compare_parameters(Comparer& comparer, const Evidence& layout, const Evidence& one_rank) {
  for (size_t i = 0; i < layout.parameters.size(); ++i) {
    const std::vector<double>& reference = one_rank.parameters.at(i).values;
    comparer.numbers(layout.parameters[i], reference);
    comparer.within("copies of " + layout.parameters[i].name, layout.parameters[i].after, layout.copy_distance[i],
                    norm(reference), 0);
  }
}

}  // namespace

const Comparison* Certificate::first_difference() const {
  const auto found = std::find_if(comparisons.begin(), comparisons.end(), [](const Comparison& c) { return !c.equal; });
  return found == comparisons.end() ? nullptr : &*found;
}

TrainConfig one_rank_config(const TrainConfig& config) {
  TrainConfig one = config;
  const int64_t dp = config.mesh().dp();
  one.mutable_mesh()->Clear();
  one.mutable_optimizer()->set_zero_stage(0);
  const bool groups = config.model().has_moe() && config.model().moe().balance_scope() == MoeConfig::GROUP;
  if (!groups) one.mutable_training()->set_micro_batch_size(config.training().micro_batch_size() * dp);
  validate_training(one, 1);
  return one;
}

Certificate compare(const Evidence& layout, const Evidence& one_rank) {
  Comparer comparer;
  compare_stream(comparer, layout, one_rank);
  for (size_t i = 0; i < layout.steps.size(); ++i) {
    compare_losses(comparer, i + 1, layout.steps[i], one_rank.steps.at(i));
    if (i == 0) compare_gradients(comparer, layout, one_rank);
    compare_norms(comparer, i + 1, layout.steps[i], one_rank.steps.at(i));
    comparer.within(concat("step ", i + 1, ", losses, counts and norm on all ranks"), layout.steps[i].after,
                    layout.steps[i].disagreement, 0, 0);
  }
  compare_parameters(comparer, layout, one_rank);
  return comparer.certificate;
}

Certificate verify_layout(const TrainConfig& config, ProcessGroup& world, Stream& s, const EvidenceOptions& options) {
  ENSURE(config.precision() == TrainConfig::F64, "precision=", TrainConfig::Precision_Name(config.precision()),
         ": layouts are compared in F64");
  const Evidence layout = gather_evidence(config, world, s, options);
  if (world.rank() != 0) return {};
  const auto one = make_thread_groups(1);
  EvidenceOptions unobserved = options;
  unobserved.observer = nullptr;
  return compare(layout, gather_evidence(one_rank_config(config), *one.front(), s, unobserved));
}

}  // namespace sluice
