#include <cmath>
#include <filesystem>

#include <gtest/gtest.h>

#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "models/transformer.h"
#include "parallel/thread_group.h"
#include "runtime/model_state.h"
#include "runtime/step.h"
#include "tests/models/golden_file.h"
#include "tests/source_dir.h"

// Logits, losses and gradients of independent implementations (tests/golden/README.md), in f64 and in f32.
namespace sluice {
namespace {

struct Tolerance {
  double logits;    // absolute
  double loss;      // relative
  double gradient;  // relative L2
};

Tolerance tolerance(DType dtype) {
  return dtype == DType::kF64 ? Tolerance{1e-9, 1e-9, 1e-9} : Tolerance{2e-5, 1e-6, 1e-4};
}

struct Case {
  std::string file;
  DType dtype;
  Isa isa;
  bool recompute;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const auto& entry : std::filesystem::directory_iterator(source_dir() + "/tests/golden")) {
    if (entry.path().extension() != ".safetensors") continue;
    for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
      if (!isa_supported(isa)) continue;
      for (const DType dtype : {DType::kF32, DType::kF64}) {
        cases.push_back({entry.path().string(), dtype, isa, false});
      }
    }
    cases.push_back({entry.path().string(), DType::kF64, best_isa(), true});
  }
  return cases;
}

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << std::filesystem::path(c.file).stem().string() << "_" << dtype_name(c.dtype) << "_" << isa_name(c.isa)
             << (c.recompute ? "_recomputed" : "");
}

std::string case_name(const testing::TestParamInfo<Case>& info) { return concat(info.param); }

double relative_l2(const std::vector<double>& got, const std::vector<double>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  // An expert that no token chose has no gradient at all.
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

class Golden : public testing::TestWithParam<Case> {
 protected:
  Golden() : file_(GetParam().file), pool_(1), group_(std::move(make_thread_groups(1).front())) {
    stream_.isa = GetParam().isa;
    stream_.pool = &pool_;
    state_ = std::make_unique<ModelState>(config(), true, GetParam().dtype);
    const Tensor gradients = state_->state.alloc("gradients", GetParam().dtype, state_->weights.shape);
    gradients_ = bind_parameters(config(), state_->records, gradients);
    fill_zero(stream_, state_->weights);
    fill_zero(stream_, gradients);
    for_each_parameter(state_->weight_tensors, config(), [&](const std::string& name, Tensor& t) {
      std::vector<double> values = file_.numbers(name);
      ASSERT_EQ(static_cast<int64_t>(values.size()), t.count()) << name;
      cast(stream_, {values.data(), DType::kF64, Device::kCpu, t.shape}, t);
    });
    make_batch();
    TrainingConfig training;
    if (GetParam().recompute) training.add_recompute()->set_last_layer(config().num_layers() - 1);
    transformer_ = std::make_unique<Transformer>(config(), training, GetParam().dtype, batch_.length, state_->state);
    make_sums();
  }

  const ModelConfig& config() const { return file_.model(); }

  void make_batch() {
    batch_.sequences = file_.shape("tokens")[0];
    batch_.length = file_.shape("tokens")[1];
    batch_.tokens = file_.integers("tokens");
    batch_.targets = file_.integers("targets");
    batch_.document_offsets = file_.integers("document_offsets");
    for (size_t d = 0; d + 1 < batch_.document_offsets.size(); ++d) {
      const int32_t length = batch_.document_offsets[d + 1] - batch_.document_offsets[d];
      for (int32_t i = 0; i < length; ++i) batch_.positions.push_back(i);
    }
    for (int32_t target : batch_.targets) batch_.target_count += target >= 0;
    scale_ = {batch_.target_count, batch_.sequences * batch_.length, 1};
  }

  void make_sums() {
    const int64_t layers = config().num_layers();
    sums_.lm_loss = state_->state.alloc("lm_loss", DType::kF64, {1});
    sums_.router = state_->state.alloc("router", DType::kF64, {layers, 3});
    sums_.expert_counts =
        state_->state.alloc("counts", DType::kI64, {layers, config().has_moe() ? config().moe().num_experts() : 0});
    for (Tensor t : {sums_.lm_loss, sums_.router, sums_.expert_counts}) fill_zero(stream_, t);
  }

  void expect_loss(const char* name, double got) {
    const double want = file_.numbers(name)[0];
    EXPECT_NEAR(got, want, tolerance(GetParam().dtype).loss * std::abs(want)) << name;
  }

  GoldenFile file_;
  ThreadPool pool_;
  Stream stream_;
  std::unique_ptr<ProcessGroup> group_;
  const Mesh mesh_{{}, *group_};
  std::unique_ptr<ModelState> state_;
  ModelTensors gradients_;
  std::unique_ptr<Transformer> transformer_;
  ActivationMemory memory_;
  TransformerSaved saved_;
  Batch batch_;
  LossScale scale_;
  StepSums sums_;
};

TEST_P(Golden, LogitsLossesAndGradientsAgree) {
  StepContext ctx = memory_.context(stream_, mesh_);
  {
    const ArenaScope kept(ctx.kept), saved(ctx.saved), scratch(ctx.scratch);
    transformer_->forward(ctx, state_->weight_tensors, token_batch(batch_), scale_, sums_, saved_);
    const Shape shape{saved_.normed.dim(0), config().vocab_size()};
    Tensor logits = ctx.scratch.alloc("logits", saved_.normed.dtype, shape);
    linear_forward(stream_, saved_.normed, state_->weight_tensors.head(), logits);
    Tensor wide = ctx.scratch.alloc("logits_f64", DType::kF64, shape);
    cast(stream_, logits, wide);
    const std::vector<double> want = file_.numbers("logits");
    ASSERT_EQ(wide.count(), static_cast<int64_t>(want.size()));
    double worst = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double error = std::abs(wide.as<double>()[i] - want[i]);
      if (!(error <= worst)) worst = error;  // a NaN counts
    }
    EXPECT_LE(worst, tolerance(GetParam().dtype).logits);
  }

  for (Tensor t : {sums_.lm_loss, sums_.router, sums_.expert_counts}) fill_zero(stream_, t);
  transformer_->train_micro_step(ctx, state_->weight_tensors, token_batch(batch_), scale_, sums_, saved_, gradients_);
  const StepLosses losses = step_losses(config(), scale_, sums_);
  expect_loss("loss", losses.lm_loss);
  expect_loss("total_loss", losses.loss);
  if (config().has_moe()) {
    expect_loss("balance_loss", losses.balance_loss);
    expect_loss("z_loss", losses.z_loss);
  }

  for_each_parameter(gradients_, config(), [&](const std::string& name, Tensor& gradient) {
    std::vector<double> got(static_cast<size_t>(gradient.count()));
    cast(stream_, gradient, {got.data(), DType::kF64, Device::kCpu, gradient.shape});
    EXPECT_LE(relative_l2(got, file_.numbers("grad." + name)), tolerance(GetParam().dtype).gradient) << name;
  });
}

INSTANTIATE_TEST_SUITE_P(, Golden, testing::ValuesIn(all_cases()), case_name);

}  // namespace
}  // namespace sluice
