#include "runtime/verify/shrink.h"

#include <algorithm>
#include <numeric>

#include "kernels/core/error.h"

namespace sluice {
namespace {

constexpr int64_t kLayers = 2, kHiddenSize = 64, kHeadDim = 8, kVocab = 256, kLength = 32, kSamples = 2,
                  kMicroSteps = 2;
constexpr int64_t kWidthOfAPart = 16;  // of feed-forward layers, a rank

/// Writes down what changes.
class Shrinker {
 public:
  /// Sets a field to `small` when it is larger.
  template <class Set>
  void shrink(const char* field, int64_t value, int64_t small, const Set& set) {
    if (value <= small) return;
    set(small);
    note(field, value, small);
  }
  void note(const char* what, int64_t before, int64_t after) {
    changes += concat(what, " ", before, " -> ", after, "\n");
  }
  std::string changes;
};

int64_t multiple_of(int64_t step, int64_t at_least) { return (at_least + step - 1) / step * step; }

void shrink_model(Shrinker& s, ModelConfig& m, const MeshConfig& mesh) {
  const int64_t hidden = m.hidden_size();
  s.shrink("model.num_layers", m.num_layers(), kLayers, [&](int64_t n) { m.set_num_layers(n); });
  s.shrink("model.hidden_size", hidden, kHiddenSize, [&](int64_t n) { m.set_hidden_size(n); });
  s.shrink("model.head_dim", m.head_dim(), kHeadDim, [&](int64_t n) { m.set_head_dim(n); });
  s.shrink("model.vocab_size", m.vocab_size(), multiple_of(mesh.tp(), kVocab), [&](int64_t n) { m.set_vocab_size(n); });
  if (m.has_moe()) {
    MoeConfig& moe = *m.mutable_moe();
    s.shrink("model.moe.moe_intermediate_size", moe.moe_intermediate_size(), kWidthOfAPart * mesh.etp(),
             [&](int64_t n) { moe.set_moe_intermediate_size(n); });
    s.shrink("model.moe.shared_expert_intermediate_size", moe.shared_expert_intermediate_size(),
             kWidthOfAPart * mesh.tp(), [&](int64_t n) { moe.set_shared_expert_intermediate_size(n); });
  } else {
    s.shrink("model.intermediate_size", m.intermediate_size(), kWidthOfAPart * mesh.tp(),
             [&](int64_t n) { m.set_intermediate_size(n); });
  }
  if (m.has_mup() && m.hidden_size() != hidden) {
    // The multipliers stay about what they are.
    const int64_t base = std::max<int64_t>(1, m.mup().base_hidden_size() * m.hidden_size() / hidden);
    s.note("model.mup.base_hidden_size", m.mup().base_hidden_size(), base);
    m.mutable_mup()->set_base_hidden_size(base);
  }
}

}  // namespace

std::string shrink_for_verification(TrainConfig& config, int world_size) {
  Shrinker s;
  TrainingConfig& t = *config.mutable_training();
  const MeshConfig& mesh = config.mesh();
  const int64_t dp = mesh.has_dp() ? mesh.dp() : std::max<int64_t>(1, world_size / std::max<int64_t>(1, mesh.tp()));
  const int64_t micro_steps = t.global_batch_size() / std::max<int64_t>(1, t.micro_batch_size() * dp);
  const int64_t layers = config.model().num_layers();
  shrink_model(s, *config.mutable_model(), mesh);
  s.shrink("training.sequence_length", t.sequence_length(), multiple_of(mesh.tp(), kLength),
           [&](int64_t n) { t.set_sequence_length(n); });
  // Tensor parallelism divides their product.
  if (kSamples * t.sequence_length() % std::max<int64_t>(1, mesh.tp()) == 0) {
    s.shrink("training.micro_batch_size", t.micro_batch_size(), kSamples,
             [&](int64_t n) { t.set_micro_batch_size(n); });
  }
  s.shrink("micro-steps", micro_steps, kMicroSteps, [](int64_t) {});
  t.set_global_batch_size(t.micro_batch_size() * dp * std::clamp<int64_t>(micro_steps, 1, kMicroSteps));
  if (t.batch_ramp_size() > 0) s.note("batch sizes of training.batch_ramp", t.batch_ramp_size(), 0);
  t.clear_batch_ramp();
  if (config.model().num_layers() != layers && t.recompute_size() > 0) {
    // Some block recomputes, another does not.
    int64_t recomputed = 0;
    for (const RecomputeRange& range : t.recompute()) recomputed += range.last_layer() - range.first_layer() + 1;
    s.note("layers of training.recompute", recomputed, 1);
    t.clear_recompute();
    t.add_recompute()->set_first_layer(0);
    t.mutable_recompute(0)->set_last_layer(0);
  }
  // Nothing is evaluated, and layers that it names may be gone.
  config.clear_evaluation();
  config.set_precision(TrainConfig::F64);
  return s.changes;
}

}  // namespace sluice
