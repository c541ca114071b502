#include "runtime/initial_weights.h"

#include <memory>

#include <gmock/gmock.h>

#include "runtime/save.h"
#include "tests/runtime/training_fixture.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

/// A checkpoint of a configuration after a step, and the weights in it by name.
struct Saved {
  Saved(const TrainConfig& config, const std::string& run_dir) : path(step_folder(run_dir, 1)) {
    run_ranks(mesh_shape(config).world(), [&](ProcessGroup& world) {
      TinyRun run(config, world);
      run.run(1);
      run.step().wait_for_weights();
      const std::string no_tokenizer;
      save_checkpoint(run_dir,
                      {config, run.model(), run.step().optimizer(), run.mesh(), no_tokenizer, 1, 4, best_isa()});
    });
  }
  std::string path;
};

InitialCheckpoint from(const std::string& path, InitialCheckpoint::Missing missing = InitialCheckpoint::REFUSE) {
  InitialCheckpoint checkpoint;
  checkpoint.set_path(path);
  checkpoint.set_missing(missing);
  return checkpoint;
}

std::unique_ptr<ModelState> model_of(const TrainConfig& config, const MeshShape& mesh = {}, int rank = 0) {
  auto model = std::make_unique<ModelState>(config.model(), true, DType::kF64, mesh, rank);
  ThreadPool pool(1);
  Stream s{Device::kCpu, best_isa(), &pool};
  initialise_parameters(model->records, 7, s, model->weights);
  return model;
}

/// What a rank holds of a parameter.
std::vector<double> held(const ModelState& model, const ParameterRecord& r) {
  const double* values = model.weights.as<double>() + r.flat_begin;
  return {values, values + r.count};
}

TEST(InitialWeights, OfAnyLayoutComeToAnyOther) {
  const std::vector<std::string> sizes = {"model.moe.num_experts=6", "model.vocab_size=36"};
  auto split = sizes;
  split.insert(split.end(), {"mesh.dp=2", "mesh.tp=2", "mesh.ep=2", "training.micro_batch_size=2"});
  const TempFolder folder;
  const TrainConfig one = tiny_config(sizes), four = tiny_config(split, 4);
  const Saved of_one(one, folder / "one"), of_four(four, folder / "four");
  const auto whole = model_of(one), again = model_of(one);
  load_initial_weights(from(of_one.path), *whole);
  load_initial_weights(from(of_four.path), *again);
  for (const ParameterRecord& r : whole->records) {
    const std::vector<double> a = held(*whole, r), b = held(*again, r);
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-12) << r.name;
  }
  // The parts of four ranks are those of the whole.
  for (int rank = 0; rank < 4; ++rank) {
    const auto part = model_of(four, mesh_shape(four), rank);
    load_initial_weights(from(of_one.path), *part);
    for (size_t i = 0; i < part->records.size(); ++i) {
      const ParameterRecord &r = part->records[i], &all = whole->records[i];
      std::vector<double> want;
      for_each_run(r.global_shape, r.boxes, [&](int64_t place, int64_t count) {
        const double* values = whole->weights.as<double>() + all.flat_begin + place;
        want.insert(want.end(), values, values + count);
      });
      EXPECT_EQ(held(*part, r), want) << r.name << " of rank " << rank;
    }
  }
}

TEST(InitialWeights, ANewGateStartsAsInANewModelWhenAsked) {
  const TempFolder folder;
  const Saved ungated(tiny_config({"model.gates="}), folder / "run");
  const TrainConfig gated = tiny_config({"model.gates[0].initialisation=ZERO"});
  const auto model = model_of(gated);
  try {
    load_initial_weights(from(ungated.path), *model);
    FAIL() << "a missing gate went unnoticed";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("lacks model.layers.0.self_attn.gates.g1.weight, model.layers.1"));
    EXPECT_THAT(error.what(), testing::HasSubstr("initial_checkpoint.missing=INIT"));
  }
  load_initial_weights(from(ungated.path, InitialCheckpoint::INIT), *model);
  for (const ParameterRecord& r : model->records) {
    if (r.name.find("gates") == std::string::npos) continue;
    EXPECT_EQ(held(*model, r), std::vector<double>(static_cast<size_t>(r.count))) << r.name;
  }
}

TEST(InitialWeights, OfAnotherModelAreRefused) {
  const TempFolder folder;
  const Saved gated(tiny_config(), folder / "run");
  const auto ungated = model_of(tiny_config({"model.gates="})), wider = model_of(tiny_config({"model.vocab_size=38"}));
  EXPECT_THROW(load_initial_weights(from(gated.path, InitialCheckpoint::INIT), *ungated), Error) << "a gate too many";
  EXPECT_THROW(load_initial_weights(from(gated.path, InitialCheckpoint::INIT), *wider), Error) << "another shape";
  EXPECT_THROW(load_initial_weights(from(folder / "nowhere"), *wider), Error);
}

}  // namespace
}  // namespace sluice
