#include "runtime/evaluate.h"

#include <cmath>

#include <gtest/gtest.h>

#include "runtime/data/indexed_writer.h"
#include "runtime/diagnostics.h"
#include "tests/runtime/training_fixture.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

constexpr int64_t kWindow = 12;

/// Loss of untrained weights on the first windows of a set, by `size` ranks.
EvaluationResult evaluate_on(int size, const std::string& prefix, int64_t windows_at_a_time, int64_t max_windows) {
  EvaluationResult result;
  run_ranks(size, [&](ProcessGroup& group) {
    const auto alone = make_thread_groups(1);
    TinyRun run(tiny_config(), *alone.front());
    const EvaluationData data(prefix, kWindow, run.model().weight_tensors.embed_tokens.dim(0));
    ActivationMemory memory;
    const EvaluationResult mine =
        evaluate_set(run.stream(), Mesh({group.size()}, group), run.transformer(), run.model().weight_tensors, data,
                     {windows_at_a_time, max_windows}, memory);
    if (group.rank() == 0) result = mine;
  });
  return result;
}

/// Four documents of together 53 tokens.
void write_documents(const std::string& prefix) {
  IndexedWriter writer(prefix, 37);
  for (const int length : {30, 1, 17, 5}) {
    std::vector<int32_t> ids(static_cast<size_t>(length));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>((i * i + 3) % 37);
    writer.add(ids);
  }
  writer.finish();
}

TEST(Evaluate, AProbeSeesTheTokensOfTheSetAndNoOthers) {
  const TempFolder folder;
  write_documents(folder / "set");
  const TrainConfig config = tiny_config();
  const auto alone = make_thread_groups(1);
  TinyRun run(config, *alone.front());
  const EvaluationData data(folder / "set", kWindow, 37);
  for (const int64_t at_a_time : {1, 2, 8}) {
    ActivationMemory memory;
    DiagnosticsProbe probe(config.model(), run.mesh(), DiagnosticsProbe::Detail::kFull);
    evaluate_set(run.stream(), run.mesh(), run.transformer(), run.model().weight_tensors, data, {at_a_time, 0, &probe},
                 memory);
    // Scores of 4 heads of 6 channels.
    for (const LayerDiagnostics& layer : probe.finish().layers) EXPECT_EQ(layer.gates[0].count, 53 * 4 * 6);
  }
}

TEST(Evaluate, AnyNumberOfRanksAndWindowsGivesTheSameLoss) {
  const TempFolder folder;
  write_documents(folder / "set");
  const EvaluationResult one = evaluate_on(1, folder / "set", 1, 0);
  EXPECT_EQ(one.targets, 29 + 16 + 4);
  // Five windows: in most of these some rank has none in the last round.
  for (const int size : {2, 3, 4}) {
    for (const int64_t at_a_time : {1, 2, 3, 8}) {
      const EvaluationResult split = evaluate_on(size, folder / "set", at_a_time, 0);
      EXPECT_EQ(split.targets, one.targets) << size << " ranks, " << at_a_time << " windows at a time";
      EXPECT_NEAR(split.loss(), one.loss(), 1e-12) << size << " ranks, " << at_a_time << " windows at a time";
    }
  }
  EXPECT_EQ(evaluate_on(2, folder / "set", 2, 1).targets, kWindow);
}

}  // namespace
}  // namespace sluice
