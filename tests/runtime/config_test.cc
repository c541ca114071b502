#include "runtime/config.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "runtime/validate.h"
#include "tests/source_dir.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

/// The message of the Error that `body` throws; empty without one.
template <class Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

std::string small_config() {
  return R"(
    model { hidden_size: 64 num_layers: 2 num_attention_heads: 4 num_key_value_heads: 2 head_dim: 16
            intermediate_size: 128 vocab_size: 256 }
    training { steps: 100 sequence_length: 32 micro_batch_size: 2 global_batch_size: 8 }
    optimizer { lr: 1e-3 }
    data { train { prefix: "x" } })";
}

TEST(Config, UnknownFieldsAreAllReportedWithPlaceAndNearestName) {
  const std::string message = message_of(
      [] { parse_config("model {\n  hiden_size: 4\n  num_layers: 2\n}\ntrainin { steps: 1 }\n", "file.textproto"); });
  EXPECT_THAT(message, HasSubstr("file.textproto:2:"));
  EXPECT_THAT(message, HasSubstr("unknown field \"hiden_size\" in ModelConfig; did you mean \"hidden_size\"?"));
  EXPECT_THAT(message, HasSubstr("file.textproto:5:"));
  EXPECT_THAT(message, HasSubstr("unknown field \"trainin\" in TrainConfig; did you mean \"training\"?"));
}

TEST(Config, OverridesSetScalarsStringsEnumsAndRepeatedElements) {
  const TrainConfig config =
      parse_config(small_config(), "test",
                   {"optimizer.lr=2e-3", "data.train[0].prefix=some/where", "data.train[1]={prefix: \"b\" weight: 3}",
                    "model.gates[0].granularity=HEADWISE", "precision=F64", "model.tie_word_embeddings=true"});
  EXPECT_EQ(config.optimizer().lr(), 2e-3);
  EXPECT_EQ(config.data().train(0).prefix(), "some/where");
  EXPECT_EQ(config.data().train(1).weight(), 3);
  ASSERT_EQ(config.model().gates_size(), 1);
  EXPECT_EQ(config.model().gates(0).granularity(), GateSpec::HEADWISE);
  EXPECT_EQ(config.precision(), TrainConfig::F64);
  EXPECT_TRUE(config.model().tie_word_embeddings());
}

TEST(Config, OverridesSetElementsOfRepeatedScalars) {
  const TrainConfig config =
      parse_config("evaluation { tasks { lengths: [1, 2, 3] } }", "test",
                   {"evaluation.tasks.lengths[1]=7", "evaluation.tasks.lengths[3]=9",
                    "evaluation.tasks.tasks[0]=NEEDLE", "evaluation.attention_map.layers=[4, 5]"});
  const auto& lengths = config.evaluation().tasks().lengths();
  EXPECT_EQ(std::vector<int64_t>(lengths.begin(), lengths.end()), (std::vector<int64_t>{1, 7, 3, 9}));
  EXPECT_EQ(config.evaluation().tasks().tasks_size(), 1);
  EXPECT_EQ(config.evaluation().attention_map().layers(1), 5);
  EXPECT_THAT(message_of([] { parse_config("", "test", {"evaluation.tasks.lengths[0]=[1, 2]"}); }),
              HasSubstr("an element is one value"));
}

TEST(Config, AnEmptyOverrideClearsAField) {
  const TrainConfig config = parse_config(small_config() + " model { gates { } }", "test", {"model.gates="});
  EXPECT_EQ(config.model().gates_size(), 0);
}

TEST(Config, AnOverrideWithoutAnIndexTakesThePlaceOfAllElements) {
  for (const char* model : {"", "model { gates { } gates { } }"}) {
    const TrainConfig config = parse_config(model, "test", {"model.gates={position: G2}"});
    ASSERT_EQ(config.model().gates_size(), 1);
    EXPECT_EQ(config.model().gates(0).position(), GateSpec::G2);
  }
}

TEST(Config, BadOverridesAreReportedTogether) {
  const std::string message = message_of([] {
    parse_config(small_config(), "test",
                 {"optimizer.lrr=1", "nonsense", "data.train[7].prefix=a", "optimizer.lr=fast", "data.train[0]="});
  });
  EXPECT_THAT(message,
              HasSubstr("--set optimizer.lrr=1: unknown field \"lrr\" in OptimizerConfig; did you mean \"lr\"?"));
  EXPECT_THAT(message, HasSubstr("--set nonsense: expected path=value"));
  EXPECT_THAT(message, HasSubstr("train has 1 elements"));
  EXPECT_THAT(message, HasSubstr("--set optimizer.lr=fast: expected a value of type double, got fast"));
  EXPECT_THAT(message, HasSubstr("--set data.train[0]=: expected fields in braces"));
}

TEST(Config, ValuesOfAnotherTypeAreAllReportedWithTheFieldAndWhatFollowsThem) {
  const std::string message = message_of([] {
    parse_config(
        "training {\n  steps: \"a\"  # text\n  seed: 1.5, micro_batch_size: [1, 2]\n}\n"
        "model { gates { position: G1 } gates { position: H2 } qk_norm: maybe hiden_size: 1 }\noptimizer: 3\n",
        "f");
  });
  EXPECT_EQ(message,
            "f:2:3: training.steps: expected a value of type int64, got \"a\"\n"
            "f:3:3: training.seed: expected a value of type int64, got 1.5\n"
            "f:3:14: training.micro_batch_size: expected a value of type int64, got [1, 2]\n"
            "f:5:40: model.gates[1].position: expected one of G1, G2, G3, G4, G5, got H2\n"
            "f:5:55: model.qk_norm: expected a value of type bool, got maybe\n"
            "f:5:80: unknown field \"hiden_size\" in ModelConfig; did you mean \"hidden_size\"?\n"
            "f:6:1: optimizer: expected fields in braces, got 3");
}

TEST(Config, AFieldThatIsSetTwiceIsRefused) {
  EXPECT_EQ(message_of([] { parse_config("optimizer { lr: 5e-3\n lr: 1e-3 }", "f"); }),
            "f:2:2: optimizer.lr is set twice, before in line 1");
  EXPECT_EQ(message_of([] { parse_config("optimizer { lr: 5e-3 }\noptimizer { beta1: 0 lr: 1e-3 }", "f"); }),
            "f:2:22: optimizer.lr is set twice, before in line 1");
  EXPECT_EQ(message_of([] { parse_config("data { train { prefix: 'a' } train { prefix: 'b' } }", "f"); }), "");
}

TEST(Config, AnOverrideSetsOneField) {
  const auto message = [](const char* text) {
    return message_of([&] { parse_config(small_config(), "test", {text}); });
  };
  for (const char* text : {"training.steps=5 seed: 77", "data.tokenizer=\"a\" prefetch: 3", "training.steps=5 no: 1"}) {
    EXPECT_THAT(message(text), HasSubstr("sets more than one field; use one --set for each")) << text;
  }
  EXPECT_EQ(message("precision=FLOAT"), "--set precision=FLOAT: expected one of F32, F64, BF16, got FLOAT");
  EXPECT_EQ(message("training.steps=5 6"), "--set training.steps=5 6: expected a value of type int64, got 5 6");
  EXPECT_EQ(message("training.steps= 5 "), "");
}

TEST(Config, TextIsReadBackEqual) {
  const TrainConfig config = parse_config(small_config(), "test");
  EXPECT_EQ(config_text(parse_config(config_text(config), "again")), config_text(config));
}

TEST(Config, AMissingFileIsNamed) {
  EXPECT_THAT(message_of([] { load_config("no/such.textproto", {}); }), HasSubstr("no/such.textproto: cannot be read"));
}

TEST(Config, AFolderIsNoFile) {
  EXPECT_THAT(message_of([] { load_config(source_dir() + "/configs", {}); }), HasSubstr("configs: is a folder"));
}

TEST(Validation, ReportsEveryProblemWithTheField) {
  const std::string message = message_of([] {
    TrainConfig config = parse_config(small_config(), "test",
                                      {"model.num_key_value_heads=3", "model.head_dim=15",
                                       "training.global_batch_size=7", "optimizer.min_lr=1", "training.steps=0"});
    validate_training(config, 1);
  });
  EXPECT_THAT(message, HasSubstr("model.num_attention_heads=4 is not divisible by model.num_key_value_heads=3"));
  EXPECT_THAT(message, HasSubstr("model.head_dim=15 must be even"));
  EXPECT_THAT(message,
              HasSubstr("training.global_batch_size=7 is not divisible by training.micro_batch_size * mesh.dp"));
  EXPECT_THAT(message, HasSubstr("optimizer.min_lr=1 must be between"));
  EXPECT_THAT(message, HasSubstr("training.steps=0 must be between"));
}

TEST(Validation, TheInstructionSetIsOneOfTheProblems) {
  const std::string message = message_of([] {
    TrainConfig config = parse_config(small_config(), "test", {"cpu.isa=mmx", "training.steps=0"});
    validate_training(config, 1);
  });
  EXPECT_THAT(message, HasSubstr("cpu.isa: unknown instruction set \"mmx\""));
  EXPECT_THAT(message, HasSubstr("training.steps=0 must be between"));
}

TEST(Validation, SizesWhoseProductOverflowsAreNamed) {
  const auto message = [](std::vector<std::string> overrides) {
    return message_of([&] {
      TrainConfig config = parse_config(small_config(), "test", overrides);
      validate_training(config, 1);
    });
  };
  EXPECT_THAT(message({"model.hidden_size=65536", "model.moe.num_experts=1024", "model.moe.top_k=1",
                       "model.moe.moe_intermediate_size=2147483648"}),
              HasSubstr("too many parameters, model.num_layers=2 * model.moe.num_experts=1024 * "
                        "model.moe.moe_intermediate_size=2147483648 * model.hidden_size=65536 is more than"));
  EXPECT_THAT(message({"model.num_attention_heads=2147483648", "training.sequence_length=268435456"}),
              HasSubstr("too many activations, training.micro_batch_size=2 * training.sequence_length=268435456 * "
                        "model.num_attention_heads=2147483648 * model.head_dim=16 is more than"));
}

TEST(Validation, AWorldThatDoesNotFitTheMeshSaysWhatWould) {
  const std::string message = message_of([] {
    TrainConfig config = parse_config(small_config(), "test", {"mesh.dp=4"});
    validate_training(config, 2);
  });
  EXPECT_THAT(message, HasSubstr("mesh.dp * mesh.tp = 4 * 1 does not match a world of 2 ranks"));
}

TEST(Validation, LayoutsThatDoNotDivideSayWhichSizesWould) {
  const auto message = [](std::vector<std::string> overrides, int world) {
    return message_of([&] {
      TrainConfig config = parse_config(small_config(), "test", overrides);
      validate_training(config, world);
    });
  };
  EXPECT_THAT(message({"mesh.tp=3"}, 3),
              HasSubstr("mesh.tp=3 does not divide model.num_attention_heads=4; use one of 1, 2, 4"));
  EXPECT_THAT(
      message({"mesh.tp=4"}, 6),
      HasSubstr("mesh.tp=4 does not divide a world of 6 ranks; use one of 1, 2, 3, 6, or a multiple of 4 ranks"));
  EXPECT_THAT(message({"mesh.dp=3", "mesh.tp=2"}, 4), HasSubstr("use 6 ranks, or mesh.dp=2"));
  const std::vector<std::string> experts = {"model.moe.num_experts=4", "model.moe.top_k=2",
                                            "model.moe.moe_intermediate_size=6"};
  const auto with = [&](std::vector<std::string> mesh, int world) {
    mesh.insert(mesh.begin(), experts.begin(), experts.end());
    return message(mesh, world);
  };
  EXPECT_THAT(with({"mesh.ep=8"}, 8),
              HasSubstr("mesh.ep=8 does not divide model.moe.num_experts=4; use one of 1, 2, 4"));
  EXPECT_THAT(with({"mesh.ep=3"}, 4), HasSubstr("does not divide the 4 ranks; use a product that is one of 1, 2, 4"));
  EXPECT_THAT(with({"mesh.etp=4"}, 4), HasSubstr("mesh.etp=4 does not divide model.moe.moe_intermediate_size=6"));
  EXPECT_THAT(message({"model.moe=", "mesh.ep=2"}, 2), HasSubstr("need model.moe"));
}

TEST(Include, FieldsOfAFileComeBehindThoseThatItIncludes) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "base");
  folder.write("base/first.textproto", "model { num_layers: 2 hidden_size: 8 gates { position: G1 } }");
  folder.write("base/second.textproto", "include: \"first.textproto\" model { hidden_size: 16 }");
  const std::string file = folder.write(
      "third.textproto", "include: \"base/second.textproto\" model { num_layers: 3 gates { position: G2 } }");
  const TrainConfig config = load_config(file, {"model.head_dim=4"});
  EXPECT_EQ(config.model().hidden_size(), 16);
  EXPECT_EQ(config.model().num_layers(), 3);
  EXPECT_EQ(config.model().head_dim(), 4);
  ASSERT_EQ(config.model().gates_size(), 2);
  EXPECT_EQ(config.model().gates(1).position(), GateSpec::G2);
  EXPECT_EQ(config.include_size(), 0) << "a run directory keeps the whole configuration";
}

TEST(Include, FilesThatAreMissingOrIncludeThemselvesAreNamed) {
  const TempFolder folder;
  const std::string lost = folder.write("lost.textproto", "include: \"no/such.textproto\"");
  EXPECT_THAT(message_of([&] { load_config(lost, {}); }), HasSubstr("no/such.textproto: cannot be read"));
  const std::string self = folder.write("a.textproto", "include: \"b.textproto\"");
  folder.write("b.textproto", "include: \"./a.textproto\"");
  EXPECT_THAT(message_of([&] { load_config(self, {}); }), HasSubstr("include \"./a.textproto\" includes itself"));
  const std::string wrong = folder.write("wrong.textproto", "include: \"typo.textproto\" modle { }");
  folder.write("typo.textproto", "optimizer { lrr: 1 }");
  EXPECT_THAT(message_of([&] { load_config(wrong, {}); }),
              testing::AllOf(HasSubstr("typo.textproto:1:"), HasSubstr("unknown field \"modle\"")));
  EXPECT_THAT(message_of([] { parse_config("", "test", {"include[0]=x"}); }), HasSubstr("only a file can include"));
}

TEST(Validation, ThreadsAreTheCoresOfARankUnlessSaid) {
  TrainConfig unsaid = parse_config(small_config(), "test"),
              said = parse_config(small_config(), "test", {"cpu.threads=1"});
  validate_training(unsaid, 1, 3);
  validate_training(said, 1, 3);
  EXPECT_EQ(unsaid.cpu().threads(), 3);
  EXPECT_EQ(said.cpu().threads(), 1);
}

TEST(Validation, WhatIsNotBuiltIsRefused) {
  for (const char* override_text : {"device=CUDA", "precision=BF16"}) {
    const std::string message = message_of([&] {
      TrainConfig config = parse_config(small_config(), "test", {override_text});
      validate_training(config, 1);
    });
    EXPECT_FALSE(message.empty()) << override_text;
  }
}

TEST(Validation, GatesWithoutAMeaningAreRefusedWithTheReason) {
  const auto message = [](const std::string& gate, const char* more) {
    return message_of([&] {
      TrainConfig config = parse_config(small_config(), "test", {"model.gates=", "model.gates[0]=" + gate, more});
      validate_training(config, 1);
    });
  };
  for (const char* position : {"G3", "G4"}) {
    const std::string headwise = concat("{position: ", position, " granularity: HEADWISE");
    EXPECT_THAT(message(headwise + "}", "model.qk_norm=true"),
                HasSubstr(concat("model.gates[0]: the norm that follows divides a headwise factor of ", position)));
    EXPECT_EQ(message(headwise + "}", "model.qk_norm=false"), "");
    EXPECT_EQ(message(headwise + " combine: ADD}", "model.qk_norm=true"), "");
    EXPECT_EQ(message(headwise + " before_qk_norm: false}", "model.qk_norm=true"), "");
    EXPECT_THAT(message(headwise + " before_qk_norm: false}", "model.qk_norm=false"),
                HasSubstr("model.gates[0].before_qk_norm=false needs model.qk_norm"));
  }
  EXPECT_THAT(message("{position: G2 before_qk_norm: true}", "model.qk_norm=true"),
              HasSubstr("model.gates[0].before_qk_norm is for G3 and G4"));
  EXPECT_THAT(message("{position: G5 granularity: HEADWISE}", "model.qk_norm=true"),
              HasSubstr("model.gates[0].granularity=HEADWISE: behind o_proj there are no heads"));
  EXPECT_THAT(message("{position: G5 sharing: HEAD_SHARED}", "model.qk_norm=true"),
              HasSubstr("model.gates[0].sharing=HEAD_SHARED: behind o_proj there are no heads"));
  EXPECT_THAT(message("{average: LOGITS}", "model.qk_norm=true"),
              HasSubstr("model.gates[0].average is for HEAD_SHARED"));
  EXPECT_THAT(message("{input: INPUT_INDEPENDENT bias: true}", "model.qk_norm=true"),
              HasSubstr("model.gates[0].bias=true: an INPUT_INDEPENDENT gate is nothing but a bias"));
  EXPECT_THAT(message("{}", "model.gates[1]={position: G1}"), HasSubstr("model.gates[1].position=G1 is there twice"));
}

TEST(Validation, SwitchHeadsWithoutAMeaningAreRefusedWithTheReason) {
  const auto message = [](const std::string& pool) {
    return message_of([&] {
      TrainConfig config = parse_config(small_config(), "test", {"model.switch_head=" + pool});
      validate_training(config, 1);
    });
  };
  EXPECT_EQ(message("{num_experts: 4 top_k: 4}"), "");
  EXPECT_EQ(message("{of: KV num_experts: 4 top_k: 2}"), "");
  EXPECT_THAT(message("{of: KV num_experts: 4 top_k: 1}"), HasSubstr("the norm of keys divides the score"));
  EXPECT_THAT(message("{num_experts: 2 top_k: 3}"), HasSubstr("switch_head.top_k=3 is more than"));
  EXPECT_THAT(message("{num_experts: 65 top_k: 1}"), HasSubstr("switch_head.num_experts=65 must be between 1 and 64"));
  EXPECT_THAT(message("{top_k: 1}"), HasSubstr("model.switch_head.num_experts is missing"));
}

TEST(Validation, EvaluationsOutOfRangeAreRefused) {
  const auto message = [](const std::string& evaluation) {
    return message_of([&] {
      TrainConfig config = parse_config(small_config(), "test", {"evaluation={" + evaluation + "}"});
      validate_training(config, 1);
    });
  };
  EXPECT_EQ(message("tasks {} attention_map { layers: 0 }"), "");
  EXPECT_THAT(message("tasks { lengths: 64 lengths: 0 }"), HasSubstr("evaluation.tasks.lengths=0 must be between 1"));
  EXPECT_THAT(message("tasks { samples: 0 }"), HasSubstr("evaluation.tasks.samples=0 must be between 1"));
  EXPECT_THAT(message("attention_map { layers: 99 }"),
              HasSubstr("evaluation.attention_map.layers=99 must be between 0"));
  EXPECT_EQ(message("attention_map { positions: 8 }"),
            "evaluation.attention_map.layers is missing: at least one layer");
  EXPECT_THAT(message("attention_map { layers: 0 positions: 5000 }"),
              HasSubstr("evaluation.attention_map.positions=5000 must be between 1 and 4096"));
  EXPECT_NE(message("tasks { tasks: NEEDLES }"), "");
}

TEST(Validation, ParityIsCarriedOutBeforeTheMeshDividesTheWidth) {
  // A gate of 64 x 64 is worth 21.3 channels of 3 x 64.
  const auto parity = [](const char* multiple) {
    return parse_config(small_config(), "test", {"model.gates[0]={}", "mesh.tp=2", multiple});
  };
  TrainConfig config = parity("model.ffn_parity_multiple=2"), odd = parity("model.ffn_parity_multiple=1");
  validate_training(config, 2);
  EXPECT_EQ(config.model().intermediate_size(), 108);
  EXPECT_FALSE(config.model().has_ffn_parity_multiple()) << "a run's configuration holds the width";
  EXPECT_THAT(message_of([&] { validate_training(odd, 2); }), HasSubstr("model.intermediate_size=107"));
  EXPECT_THAT(message_of([] {
                TrainConfig negative = parse_config(small_config(), "test", {"model.ffn_parity_multiple=-1"});
                validate_training(negative, 1);
              }),
              HasSubstr("model.ffn_parity_multiple=-1 must be between 0"));
}

TEST(Validation, ShippedConfigurationsAreValid) {
  for (const char* name : {"moe_15a2b_baseline", "moe_15a2b_g1_elementwise", "moe_15a2b_g1_headwise",
                           "dense_1p7b_28l_baseline", "dense_1p7b_28l_g1_elementwise", "quickstart"}) {
    TrainConfig config = load_config(source_dir() + "/configs/" + name + ".textproto", {});
    EXPECT_EQ(message_of([&] { validate_training(config, 2); }), "") << name;
  }
}

}  // namespace
}  // namespace sluice
