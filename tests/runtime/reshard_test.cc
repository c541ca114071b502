#include "runtime/checkpoint/reshard.h"

#include <gtest/gtest.h>

#include "runtime/checkpoint/diff.h"
#include "runtime/checkpoint/verify.h"
#include "runtime/checkpoint_list.h"
#include "runtime/resume.h"
#include "runtime/step_folders.h"
#include "tests/runtime/save_now.h"
#include "tests/temp_folder.h"
#include "tests/verify/layouts.h"

namespace sluice {
namespace {

/// What the tests fill a parameter with: a function of the element, whatever the layout.
std::vector<double> values(const ParameterRecord& r, Piece::Kind kind, DType dtype) {
  const Philox random(static_cast<uint64_t>(kind), r.name);
  std::vector<double> held;
  for_each_run(r.global_shape, r.boxes, [&](int64_t place, int64_t count) {
    for (int64_t i = place; i < place + count; ++i) {
      const double value = random.uniform(static_cast<uint64_t>(i));
      held.push_back(dtype == DType::kF64 ? value : static_cast<float>(value));
    }
  });
  return held;
}

void set(Tensor t, const double* from) {
  for (int64_t i = 0; i < t.count(); ++i) {
    if (t.dtype == DType::kF64)
      t.as<double>()[i] = from[i];
    else
      t.as<float>()[i] = static_cast<float>(from[i]);
  }
}

bool holds(Tensor t, const double* want) {
  for (int64_t i = 0; i < t.count(); ++i) {
    if ((t.dtype == DType::kF64 ? t.as<double>()[i] : t.as<float>()[i]) != want[i]) return false;
  }
  return true;
}

/// What a rank keeps, and the places in it that checkpoints are about.
struct RankState {
  RankState(const TrainConfig& config, ProcessGroup& world)
      : mesh(mesh_shape(config), world),
        model(config.model(), config.optimizer().decay_embeddings(), compute_dtype(config.precision()), mesh.shape(),
              world.rank()),
        optimizer(config.optimizer(), model, mesh, stream) {}

  /// visit(tensor, its record, kind, element of what the rank holds that it begins with).
  template <class Visit>
  void for_each(const Visit& visit) {
    for (const ParameterRecord& r : model.records) {
      visit(model.weights.rows(r.flat_begin, r.count), r, Piece::MASTER, 0);
      const Optimizer::Moments moments = optimizer.moments(r);
      visit(moments.m, r, Piece::M, moments.begin);
      visit(moments.v, r, Piece::V, moments.begin);
    }
  }

  ThreadPool pool{1};
  Stream stream{Device::kCpu, best_isa(), &pool};
  Mesh mesh;
  ModelState model;
  Optimizer optimizer;
};

void save_values(const TrainConfig& config, const std::string& run_dir) {
  run_ranks(mesh_shape(config).world(), [&](ProcessGroup& world) {
    RankState state(config, world);
    state.for_each([&](Tensor t, const ParameterRecord& r, Piece::Kind kind, int64_t begin) {
      set(t, values(r, kind, t.dtype).data() + begin);
    });
    const std::string no_tokenizer;
    save_now({run_dir, config, state.model, state.optimizer, state.mesh, no_tokenizer}, state.stream, 3);
  });
}

void expect_values(const TrainConfig& config, const std::string& step_dir) {
  run_ranks(mesh_shape(config).world(), [&](ProcessGroup& world) {
    RankState state(config, world);
    CheckpointReader reader(step_dir);
    load_state(reader, state.model, state.optimizer);
    int64_t moments = 0;
    state.for_each([&](Tensor t, const ParameterRecord& r, Piece::Kind kind, int64_t begin) {
      EXPECT_TRUE(holds(t, values(r, kind, t.dtype).data() + begin))
          << Piece::Kind_Name(kind) << " of " << r.name << " on rank " << world.rank();
      if (kind == Piece::M) moments += t.count();
    });
    EXPECT_GT(moments, 0);
  });
}

/// A layout for the model of `saved`.
Layout another_layout(const Layout& saved, uint64_t seed) {
  Layout layout;
  do {
    layout = random_layout(seed++);
  } while (layout.moe != saved.moe);
  layout.gate = saved.gate, layout.tied = saved.tied, layout.bias_rate = saved.bias_rate;
  return layout;
}

TEST(Reshard, ThreadGroupRanksLoadWhatOthersSavedToTheLastBit) {
  constexpr uint64_t kPairs = 40;
  for (uint64_t pair = 0; pair < kPairs; ++pair) {
    const Layout from = random_layout(1000 + pair), to = another_layout(from, 2000 + 100 * pair);
    SCOPED_TRACE(layout_text(from) + " to " + layout_text(to));
    const std::string precision = pair % 2 ? "precision=F32" : "precision=F64";
    const TempFolder folder;
    save_values(layout_config(from, {precision}), folder / "run");
    expect_values(layout_config(to, {precision}), step_folder(folder / "run", 3));
  }
}

TEST(Reshard, ThreadGroupRanksLoadWhatWasDividedIntoOtherFiles) {
  constexpr uint64_t kPairs = 12;
  for (uint64_t pair = 0; pair < kPairs; ++pair) {
    const Layout from = random_layout(5000 + pair), to = another_layout(from, 6000 + 100 * pair);
    SCOPED_TRACE(layout_text(from) + " to " + layout_text(to));
    const std::string precision = pair % 2 ? "precision=F32" : "precision=F64";
    const TempFolder folder;
    save_values(layout_config(from, {precision}), folder / "run");
    const std::string saved = step_folder(folder / "run", 3), out = folder / "out";
    reshard_checkpoint(saved, out, 1 + static_cast<int>(pair % 7));
    for (const std::string& checkpoint : {saved, out}) {
      const auto model_of = [&](const Manifest& manifest) { return saved_parameters(manifest, checkpoint); };
      EXPECT_THAT(verify_checkpoint(checkpoint, model_of).problems, testing::IsEmpty());
    }
    EXPECT_TRUE(diff_checkpoints(saved, out).equal());
    expect_values(layout_config(to, {precision}), out);
  }
}

}  // namespace
}  // namespace sluice
