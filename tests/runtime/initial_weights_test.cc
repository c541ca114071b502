#include "runtime/initial_weights.h"

#include <functional>
#include <map>
#include <memory>

#include <gmock/gmock.h>

#include "runtime/step_folders.h"
#include "tests/runtime/save_now.h"
#include "tests/runtime/training_fixture.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

/// What a rank holds of a parameter.
std::vector<double> held(const ModelState& model, const ParameterRecord& r) {
  const double* values = model.weights.as<double>() + r.flat_begin;
  return {values, values + r.count};
}

/// A checkpoint of a configuration after a step, and the weights in it by name where one rank wrote it.
struct Saved {
  Saved(const TrainConfig& config, const std::string& run_dir) : path(step_folder(run_dir, 1)) {
    run_ranks(mesh_shape(config).world(), [&](ProcessGroup& world) {
      TinyRun run(config, world);
      run.run(1);
      run.step().wait_for_weights();
      const std::string no_tokenizer;
      save_now({run_dir, config, run.model(), run.step().optimizer(), run.mesh(), no_tokenizer}, run.stream(), 1);
      if (world.size() > 1) return;
      for (const ParameterRecord& r : run.model().records) weights[r.name] = held(run.model(), r);
    });
  }
  std::string path;
  std::map<std::string, std::vector<double>> weights;
};

InitialCheckpoint from(const std::string& path, InitialCheckpoint::Missing missing = InitialCheckpoint::REFUSE) {
  InitialCheckpoint checkpoint;
  checkpoint.set_path(path);
  checkpoint.set_missing(missing);
  return checkpoint;
}

/// Initialised with another seed than what is saved.
std::unique_ptr<ModelState> model_of(const TrainConfig& config, const MeshShape& mesh = {}, int rank = 0) {
  auto model = std::make_unique<ModelState>(config.model(), true, DType::kF64, mesh, rank);
  ThreadPool pool(1);
  Stream s{Device::kCpu, best_isa(), &pool};
  initialise_parameters(model->records, 7, s, model->weights);
  return model;
}

TEST(InitialWeights, OfAnyLayoutComeToAnyOther) {
  const std::vector<std::string> sizes = {"model.moe.num_experts=6", "model.vocab_size=36"};
  auto split = sizes;
  split.insert(split.end(), {"mesh.dp=2", "mesh.tp=2", "mesh.ep=2", "training.micro_batch_size=2"});
  const TempFolder folder;
  const TrainConfig one = tiny_config(sizes), four = tiny_config(split, 4);
  const Saved of_one(one, folder / "one"), of_four(four, folder / "four");
  const auto whole = model_of(one), again = model_of(one);
  load_initial_weights(from(of_one.path), one.model(), *whole);
  load_initial_weights(from(of_four.path), one.model(), *again);
  for (const ParameterRecord& r : whole->records) {
    const std::vector<double> a = held(*whole, r), b = held(*again, r);
    EXPECT_EQ(a, of_one.weights.at(r.name)) << r.name;
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-12) << r.name;
  }
  // The parts of four ranks are those of the whole.
  for (int rank = 0; rank < 4; ++rank) {
    const auto part = model_of(four, mesh_shape(four), rank);
    load_initial_weights(from(of_one.path), four.model(), *part);
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
    load_initial_weights(from(ungated.path), gated.model(), *model);
    FAIL() << "a missing gate went unnoticed";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("lacks model.layers.0.self_attn.gates.g1.weight, model.layers.1"));
    EXPECT_THAT(error.what(), testing::HasSubstr("initial_checkpoint.missing=INIT"));
  }
  const std::vector<std::string> fresh =
      load_initial_weights(from(ungated.path, InitialCheckpoint::INIT), gated.model(), *model);
  EXPECT_THAT(fresh, testing::ElementsAre("model.layers.0.self_attn.gates.g1.weight",
                                          "model.layers.1.self_attn.gates.g1.weight"));
  for (const ParameterRecord& r : model->records) {
    const bool gate = r.name.find("gates") != std::string::npos;
    EXPECT_EQ(held(*model, r), gate ? std::vector<double>(static_cast<size_t>(r.count)) : ungated.weights.at(r.name))
        << r.name;
  }
}

TEST(InitialWeights, ANewGateWithRandomScoresKeepsThem) {
  const TempFolder folder;
  const Saved ungated(tiny_config({"model.gates="}), folder / "run");
  const TrainConfig gated = tiny_config();
  const auto model = model_of(gated), untouched = model_of(gated);
  load_initial_weights(from(ungated.path, InitialCheckpoint::INIT), gated.model(), *model);
  for (const ParameterRecord& r : model->records) {
    if (r.name.find("gates") == std::string::npos) continue;
    EXPECT_EQ(held(*model, r), held(*untouched, r)) << r.name;
    EXPECT_NE(held(*model, r), std::vector<double>(static_cast<size_t>(r.count)));
  }
}

TEST(InitialWeights, OfOtherHeadsAreRefused) {
  const TempFolder folder;
  const Saved saved(tiny_config({"model.qk_norm=false"}), folder / "run");
  // As wide in all.
  const TrainConfig config = tiny_config(
      {"model.qk_norm=false", "model.num_attention_heads=2", "model.num_key_value_heads=1", "model.head_dim=12"});
  const auto model = model_of(config);
  EXPECT_THAT(error_of([&] { load_initial_weights(from(saved.path), config.model(), *model); }),
              testing::HasSubstr("model.num_attention_heads=2, but initial_checkpoint.path="));
}

TEST(InitialWeights, OfAnotherWidthAreRefused) {
  const TempFolder folder;
  const Saved experts(tiny_config({"model.gates="}), folder / "experts");
  const Saved dense(tiny_config({"model.gates=", "model.moe=", "model.intermediate_size=40"}), folder / "dense");
  // The gate is worth more than a channel of all experts, and 8 of a dense layer.
  const TrainConfig parity = tiny_config({"model.ffn_parity_multiple=1"});
  const TrainConfig dense_parity =
      tiny_config({"model.moe=", "model.intermediate_size=40", "model.ffn_parity_multiple=1"});
  const auto message = [](const Saved& saved, const TrainConfig& config) {
    const auto model = model_of(config);
    return error_of([&] { load_initial_weights(from(saved.path, InitialCheckpoint::INIT), config.model(), *model); });
  };
  EXPECT_THAT(message(experts, parity),
              testing::AllOf(testing::HasSubstr("model.moe.moe_intermediate_size=6, but initial_checkpoint.path="),
                             testing::HasSubstr("was trained with 7; neither it nor model.ffn_parity_multiple can")));
  EXPECT_THAT(message(dense, dense_parity),
              testing::AllOf(testing::HasSubstr("model.intermediate_size=32, but initial_checkpoint.path="),
                             testing::HasSubstr("was trained with 40; neither it nor model.ffn_parity_multiple can")));
}

TEST(InitialWeights, AGateThatStartsAtOneLeavesATrainedModelAsItIs) {
  const TempFolder folder;
  const TrainConfig ungated = tiny_config({"model.gates="});
  const Saved trained(ungated, folder / "run");
  const auto group = std::move(make_thread_groups(1).front());
  const auto first_loss = [&](const TrainConfig& config, const std::function<void(TinyRun&)>& after) {
    TinyRun run(config, *group);
    load_initial_weights(from(trained.path, InitialCheckpoint::INIT), config.model(), run.model());
    for (const ParameterRecord& r : run.model().records) {
      if (r.name.find("gates") != std::string::npos) continue;
      EXPECT_EQ(held(run.model(), r), trained.weights.at(r.name)) << r.name;
    }
    const double loss = run.run(1).losses.lm_loss;
    after(run);
    return loss;
  };
  const double plain = first_loss(ungated, [](TinyRun&) {});
  for (const char* position : {"G1", "G2", "G3", "G4", "G5"}) {
    const std::string gate = std::string("model.gates[0]={position: ") + position;
    // Bit for bit: every score is 1.
    EXPECT_EQ(first_loss(tiny_config({gate + " activation: TWICE_SIGMOID initialisation: ZERO}"}),
                         [&](TinyRun& run) {
                           for (const ParameterRecord& r : run.model().records) {
                             if (r.name.find("gates") == std::string::npos) continue;
                             const std::vector<double> learnt = held(run.model(), r);
                             EXPECT_NE(learnt, std::vector<double>(learnt.size())) << r.name << " does not train on";
                           }
                         }),
              plain)
        << position;
    EXPECT_NE(first_loss(tiny_config({gate + "}"}), [](TinyRun&) {}), plain) << position << " with random scores";
  }
}

TEST(InitialWeights, OfAnotherModelAreRefused) {
  const TempFolder folder;
  const Saved gated(tiny_config(), folder / "run");
  const TrainConfig ungated_config = tiny_config({"model.gates="}), wider_config = tiny_config({"model.vocab_size=38"});
  const auto ungated = model_of(ungated_config), wider = model_of(wider_config);
  EXPECT_THROW(load_initial_weights(from(gated.path, InitialCheckpoint::INIT), ungated_config.model(), *ungated), Error)
      << "a gate too many";
  EXPECT_THROW(load_initial_weights(from(gated.path, InitialCheckpoint::INIT), wider_config.model(), *wider), Error)
      << "another shape";
  EXPECT_THROW(load_initial_weights(from(folder / "nowhere"), wider_config.model(), *wider), Error);
}

}  // namespace
}  // namespace sluice
