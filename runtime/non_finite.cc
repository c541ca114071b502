#include "runtime/non_finite.h"

#include <cmath>
#include <limits>
#include <string_view>

#include "kernels/reduce.h"
#include "parallel/agree.h"

namespace sluice {
namespace {

// What spoils a step is told in this order: moments and weights, which last, before what was made of them in the step,
// one place of the model after the other, each with its tensors, before the gradients of parameters.
constexpr int64_t kMoments = 0, kOwnWeights = 1, kActivations = 2, kTensorsAPlace = 16;
constexpr int64_t kGradients = int64_t{1} << 40, kSummedGradients = kGradients + 1;
constexpr int64_t kNothing = std::numeric_limits<int64_t>::max();

std::string in_layer(const char* what, int64_t layer) { return concat(what, " of layer ", layer); }

/// In plain words, of what a Probe is told.
std::string residual(std::string_view what, int64_t layer) {
  if (what == "embedding") return "what the embedding gives";
  if (what == "feed-forward") return in_layer("the residual behind the feed-forward layer", layer);
  if (what == "gradient behind the last layer") return "the gradient of the residual behind the last layer";
  if (what == "gradient behind attention") return in_layer("the gradient of the residual behind attention", layer);
  return in_layer("the gradient of the input", layer);
}

}  // namespace

void NonFiniteFinder::begin_step(Stream& s) {
  stream_ = &s;
  place_ = 0;
  found_ = looks_closer_ = false;
}

bool NonFiniteFinder::finite(Tensor x) {
  double most = 0;
  max_abs(*stream_, x, {&most, DType::kF64, Device::kCpu, {1}});
  return std::isfinite(most);
}

void NonFiniteFinder::see(const char* what, int64_t layer, Tensor x) {
  ++place_;
  const std::string_view place = what;
  // What is wrong in the middle of a block is so behind it too.
  if (found_ || place == "attention" || finite(x)) return;
  found_ = true;
  looks_closer_ = place == "feed-forward";
  in_activations_ = {kActivations + place_ * kTensorsAPlace + kTensorsAPlace - 1, residual(place, layer)};
}

void NonFiniteFinder::see_block(StepContext&, int64_t layer, const TokenBatch&, const BlockSaved& block, Tensor) {
  looks_closer_ = false;
  const AttentionSaved& attention = block.attention;
  const std::pair<const char*, Tensor> in_order[] = {
      {"the normed input of attention", block.attention_in},
      {"the queries", attention.q.out},
      {"the keys", attention.k.out},
      {"the values", attention.v.out},
      {"the output of the heads", attention.out},
      {"the gated output of the heads", attention.gated},
      {"the residual behind attention", block.middle},
      {"the normed input of the feed-forward layer", block.mlp_in},
      {"the choice of experts", block.routing.weights},
      {"the hidden values of the feed-forward layer", block.mlp.gate_up},
      {"the hidden values of the experts", block.moe.gate_up},
  };
  int64_t index = 0;
  for (const auto& [name, x] : in_order) {
    ++index;
    if (!x || x.count() == 0 || finite(x)) continue;
    const int64_t place = in_activations_.order / kTensorsAPlace * kTensorsAPlace;
    in_activations_ = {place + std::min(index, kTensorsAPlace - 2), in_layer(name, layer)};
    return;
  }
}

void NonFiniteFinder::find_in_parameters(Finding& first) {
  const Optimizer& optimizer = train_step_.optimizer();
  for (const ParameterRecord& r : model_.records) {
    const Optimizer::Moments moments = optimizer.moments(r);
    if (!finite(moments.m) || !finite(moments.v)) {
      first = {kMoments, concat("a moment of ", r.name)};
      return;
    }
    // Of others this rank has copies, which are replaced at the end of each step.
    const Tensor own = model_.weights.rows(r.flat_begin + moments.begin, moments.end - moments.begin);
    if (first.order > kOwnWeights && !finite(own)) first = {kOwnWeights, concat("a weight of ", r.name)};
  }
}

void NonFiniteFinder::find_in_gradients(Finding& first) {
  const GradientReducer& gradients = train_step_.gradients();
  for (const ParameterRecord& r : model_.records) {
    for (const auto& [part, summed] : gradients.known_parts(r)) {
      const int64_t order = summed ? kSummedGradients : kGradients;
      if (order >= first.order || finite(part)) continue;
      first = {order, concat("the gradient of ", r.name)};
    }
  }
}

std::string NonFiniteFinder::where() {
  Finding first{kNothing, ""};
  find_in_parameters(first);
  if (found_ && in_activations_.order < first.order) first = in_activations_;
  if (first.order == kNothing) find_in_gradients(first);
  ProcessGroup& world = mesh_.world();
  int64_t order = -first.order;
  world.all_reduce({&order, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax).wait();
  if (order == -kNothing) return "";
  const bool here = first.order == -order;
  int64_t rank = here ? world.size() - world.rank() : 0, ranks = here;
  world.all_reduce({&rank, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax).wait();
  world.all_reduce({&ranks, DType::kI64, Device::kCpu, {1}}).wait();
  const int root = world.size() - static_cast<int>(rank);
  const std::string what = broadcast_string(world, first.what, root);
  if (-order == kSummedGradients && !train_step_.gradients().tells_ranks_apart()) return what + ", summed over ranks";
  const std::string told = -order >= kActivations && -order < kGradients ? what + ", first seen" : what;
  return ranks > 1 ? concat(told, " on ", ranks, " ranks at once, rank ", root, " is one")
                   : concat(told, " on rank ", root);
}

}  // namespace sluice
