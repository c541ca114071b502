#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/run_hooks.h"

namespace sluice {

/// What befalls a run.
enum class Disturbance {
  kNone,
  kPoisonedBatch,  ///< random tokens on all ranks
  kTenfoldLr,      ///< for five steps
  kWeightBit,      ///< the highest bit of the exponent of any one, on rank 0
  kGradientBit,    ///< the same, of a gradient sum that is being made
  kMomentBit,      ///< the same, of a first moment
  kNanActivation,  ///< an element of the residual stream of a sequence, on the last rank
  kTokenFile,      ///< a fiftieth of the tokens, which lie together in the file, are random
};

inline constexpr Disturbance kDisturbances[] = {
    Disturbance::kPoisonedBatch, Disturbance::kTenfoldLr,     Disturbance::kWeightBit, Disturbance::kGradientBit,
    Disturbance::kMomentBit,     Disturbance::kNanActivation, Disturbance::kTokenFile};

inline const char* name_of(Disturbance kind) {
  switch (kind) {
    case Disturbance::kNone:
      return "none";
    case Disturbance::kPoisonedBatch:
      return "poisoned batch";
    case Disturbance::kTenfoldLr:
      return "ten-fold LR for five steps";
    case Disturbance::kWeightBit:
      return "exponent bit of a weight";
    case Disturbance::kGradientBit:
      return "exponent bit of a gradient";
    case Disturbance::kMomentBit:
      return "exponent bit of a moment";
    case Disturbance::kNanActivation:
      return "NaN activation on one rank";
    case Disturbance::kTokenFile:
      return "corrupted token file";
  }
  return "";
}

/// Disturbs one rank's part of a run of f32 in a step, once: when the step is taken again, it is left alone. Gradients
/// need two micro-steps a step and ZeRO stage 0 or 1.
class Disturber : public RunHooks, private Probe {
 public:
  Disturber(Disturbance kind, int64_t step, uint64_t seed, const ProcessGroup& world)
      : kind_(kind), step_(step), random_(seed), rank_(world.rank()), last_rank_(world.size() - 1) {}

  void before_step(int64_t step, ModelState& model, TrainStep& train_step) override {
    record_ = nullptr;
    if (step != step_) return;
    now_ = !std::exchange(done_, true);
    if (!now_) return;
    std::vector<Tensor> places;
    switch (kind_) {
      case Disturbance::kWeightBit:
        train_step.wait_for_weights();
        for (const Optimizer::Own& own : train_step.optimizer().own()) places.push_back(own.weights);
        if (rank_ == 0) flip(places[any_of(places)]);
        train_step.share_weights();
        break;
      case Disturbance::kMomentBit:
        for (const Optimizer::Own& own : train_step.optimizer().own()) places.push_back(own.m);
        if (rank_ == 0) flip(places[any_of(places)]);
        break;
      case Disturbance::kGradientBit:
        gradients_ = &train_step.gradients(), micro_step_ = 0;
        for (const ParameterRecord& record : model.records) places.push_back(gradients_->place(record));
        if (rank_ == 0) record_ = &model.records[any_of(places)];
        break;
      case Disturbance::kNanActivation:
        if (rank_ == last_rank_) train_step.set_probe(this, 1);
        break;
      default:
        break;
    }
  }

  const Batch& batch(int64_t step, const Batch& own) override {
    if (kind_ != Disturbance::kPoisonedBatch || step != step_ || !now_) return own;
    poisoned_ = own;
    std::uniform_int_distribution<int32_t> token(0, *std::max_element(own.tokens.begin(), own.tokens.end()));
    for (int32_t& t : poisoned_.tokens) t = token(random_);
    for (int32_t& t : poisoned_.targets) t = t < 0 ? t : token(random_);
    return poisoned_;
  }

  double learning_rate(int64_t step, double lr) override {
    constexpr int64_t kSteps = 5;
    const bool again = step <= std::exchange(last_step_, std::max(step, last_step_));
    return kind_ == Disturbance::kTenfoldLr && !again && step >= step_ && step < step_ + kSteps ? 10 * lr : lr;
  }

 private:
  /// One of some tensors; each element is as likely as the others to lie in it.
  size_t any_of(const std::vector<Tensor>& tensors) {
    std::vector<double> sizes;
    for (const Tensor& x : tensors) sizes.push_back(static_cast<double>(x.count()));
    return std::discrete_distribution<size_t>(sizes.begin(), sizes.end())(random_);
  }
  /// Flips the highest bit of an element's exponent: what is below 2 becomes 2^128 times as large.
  void flip(Tensor x) {
    INVARIANT(x.count() > 0, "there is nothing to flip");
    std::uniform_int_distribution<int64_t> any(0, x.count() - 1);
    float* element = nullptr;
    do element = x.as<float>() + any(random_);
    while (*element == 0);
    *element = std::bit_cast<float>(std::bit_cast<uint32_t>(*element) ^ 0x40000000u);
  }

  void before_backward(int stage) override {
    if (record_ && stage == record_->stage && ++micro_step_ == 2) flip(gradients_->place(*record_));
  }

  void see(const char*, int64_t layer, Tensor x) override {
    if (layer == 0) *x.as<float>() = std::numeric_limits<float>::quiet_NaN();
  }

  const Disturbance kind_;
  const int64_t step_;
  std::mt19937_64 random_;
  const int rank_, last_rank_;
  bool now_ = false, done_ = false;
  int64_t last_step_ = 0;  // so far
  int micro_step_ = 0;
  const ParameterRecord* record_ = nullptr;  // whose gradient is to flip in this step; null: none
  const GradientReducer* gradients_ = nullptr;
  Batch poisoned_;
};

}  // namespace sluice
