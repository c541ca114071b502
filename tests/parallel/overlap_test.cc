#include <functional>

#include <gtest/gtest.h>

#include "kernels/elementwise.h"
#include "parallel/gradient_reducer.h"
#include "parallel/parameter_gather.h"
#include "parallel/thread_group.h"
#include "tests/parallel/late_group.h"

namespace sluice {
namespace {

constexpr int kStages = 6;
constexpr int64_t kElements = 1000;
constexpr double kComputeSeconds = 0.04;
// A stage's exchange takes three quarters of its computation.
constexpr double kBytesPerSecond = kElements * 4 / (0.75 * kComputeSeconds);

using Clock = std::chrono::steady_clock;

double seconds_of(const std::function<void()>& body) {
  const Clock::time_point start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void compute() { std::this_thread::sleep_for(std::chrono::duration<double>(kComputeSeconds)); }

/// A model of stages with one parameter each, on two ranks behind slow links.
struct Model {
  explicit Model(ProcessGroup& world, ZeroStage zero)
      : link(kBytesPerSecond),
        late(world, &link),
        mesh(shape(), late),
        records(make_records()),
        layout(records, mesh.shape()),
        arena("test", MemorySource::kHugePages, int64_t{1} << 20),
        reducer(mesh, layout, zero, DType::kF32, arena),
        weights(arena.alloc("weights", DType::kF32, {layout.count()})),
        gather(mesh, layout, weights) {}

  static MeshShape shape() {
    MeshShape shape;
    shape.dp = 2;
    return shape;
  }
  static std::vector<ParameterRecord> make_records() {
    std::vector<ParameterRecord> records(kStages);
    for (int i = 0; i < kStages; ++i) {
      records[static_cast<size_t>(i)].name = concat("p", i);
      records[static_cast<size_t>(i)].count = kElements;
      records[static_cast<size_t>(i)].stage = i;
    }
    return records;
  }

  SlowLink link;
  LateGroup late;
  Mesh mesh;
  std::vector<ParameterRecord> records;
  FlatLayout layout;
  Arena arena;
  GradientReducer reducer;
  Tensor weights;
  ParameterGather gather;
};

TEST(Overlap, GradientsOfAThreadGroupTravelWhileEarlierStagesCompute) {
  for (const ZeroStage zero : {ZeroStage::kNone, ZeroStage::kOptimizer, ZeroStage::kGradients}) {
    run_ranks(2, [&](ProcessGroup& world) {
      ThreadPool pool(1);
      Stream s{Device::kCpu, Isa::kPortable, &pool};
      Model model(world, zero);
      model.reducer.begin_step(s);
      model.reducer.begin_micro_step(true, true);
      const double elapsed = seconds_of([&] {
        for (int stage = kStages - 1; stage >= 0; --stage) {
          model.reducer.before_backward(s, stage);
          compute();
          for (int64_t i = 0; i < kElements; ++i) {
            model.reducer.place(model.records[static_cast<size_t>(stage)]).as<float>()[i] = world.rank() + 1.0f;
          }
          model.reducer.after_backward(s, stage);
        }
        model.reducer.finish(s);
      });
      for (size_t bucket = 0; bucket < model.layout.buckets().size(); ++bucket) {
        EXPECT_EQ(model.reducer.owned(bucket).as<float>()[0], 3.0f);
      }
      // All computation, and the exchange of the last stage; an all_reduce sends twice as much and does not hide.
      const double exchange = (zero == ZeroStage::kNone ? 2 : 1) * 0.75 * kComputeSeconds;
      const double one_after_the_other = kStages * (kComputeSeconds + exchange);
      const double hidden = kStages * kComputeSeconds + exchange;
      if (zero == ZeroStage::kNone) {
        EXPECT_LT(elapsed, kStages * exchange + 2 * kComputeSeconds);
      } else {
        EXPECT_LT(elapsed, 0.5 * hidden + 0.5 * one_after_the_other);
      }
    });
  }
}

TEST(Overlap, WeightsOfAThreadGroupArriveWhileEarlierStagesCompute) {
  run_ranks(2, [&](ProcessGroup& world) {
    Model model(world, ZeroStage::kOptimizer);
    for (int64_t i = 0; i < model.weights.count(); ++i) model.weights.as<float>()[i] = world.rank() + 1.0f;
    const double elapsed = seconds_of([&] {
      model.gather.start();
      for (int stage = 0; stage < kStages; ++stage) {
        model.gather.wait(stage);
        const Bucket& bucket = model.layout.buckets()[static_cast<size_t>(stage)];
        EXPECT_EQ(model.weights.as<float>()[bucket.begin], 1.0f) << "of rank 0";
        EXPECT_EQ(model.weights.as<float>()[bucket.begin + bucket.count - 1], 2.0f) << "of rank 1";
        compute();
      }
    });
    const double exchange = 0.75 * kComputeSeconds;
    EXPECT_LT(elapsed, kStages * kComputeSeconds + 0.5 * (1 + kStages) * exchange);
  });
}

TEST(LateGroup, AThreadGroupFindsOutWhoDoesNotWait) {
  const auto run = [](const std::function<void(Tensor)>& meanwhile) {
    run_ranks(2, [&](ProcessGroup& world) {
      LateGroup late(world);
      std::vector<double> x(3, 1.0);
      const Tensor view{x.data(), DType::kF64, Device::kCpu, {3}};
      Event event = late.all_reduce(view);
      meanwhile(view);
      event.wait();
      EXPECT_EQ(x[0], 2.0);
    });
  };
  run([](Tensor x) { EXPECT_FALSE(x.as<double>()[0] == 1.0); });
  EXPECT_THROW(run([](Tensor x) { x.as<double>()[2] = 0; }), Error);
}

}  // namespace
}  // namespace sluice
