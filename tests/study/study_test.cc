#include "launch/study/study.h"

#include <functional>

#include <gmock/gmock.h>

#include "kernels/core/error.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class StudyTest : public testing::Test {
 protected:
  StudyTest() {
    folder_.write("base.textproto",
                  "model { hidden_size: 8 num_layers: 1 num_attention_heads: 2 num_key_value_heads: 1 head_dim: 4 "
                  "vocab_size: 10 intermediate_size: 16 } training { steps: 4 sequence_length: 8 seed: 7 }");
  }
  std::vector<Cell> cells(const std::string& text) {
    const std::string file = folder_.write("study.textproto", text);
    return cells_of(load_study(file), file);
  }
  std::vector<std::string> names(const std::string& text) {
    std::vector<std::string> names;
    for (const Cell& cell : cells(text)) names.push_back(cell.name);
    return names;
  }
  std::string error_of(const std::string& text) {
    try {
      cells(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  const TempFolder folder_;
};

TEST_F(StudyTest, ACellForEveryCombination) {
  const std::string text =
      "config: 'base.textproto' set: 'training.steps=9' "
      "axis { name: 'lr' field: 'optimizer.lr' value: '1e-3' value: '2e-3' } "
      "axis { name: 'gate' choice { name: 'none' } "
      "  choice { name: 'G1' set: 'model.gates[0].position=G1' set: 'model.num_layers=2' } } "
      "seed: 1 seed: 2";
  EXPECT_THAT(names(text), ElementsAre("lr=1e-3,gate=none,seed=1", "lr=1e-3,gate=none,seed=2", "lr=1e-3,gate=G1,seed=1",
                                       "lr=1e-3,gate=G1,seed=2", "lr=2e-3,gate=none,seed=1", "lr=2e-3,gate=none,seed=2",
                                       "lr=2e-3,gate=G1,seed=1", "lr=2e-3,gate=G1,seed=2"));
  const Cell last = cells(text).back();
  EXPECT_EQ(last.config.training().steps(), 9);
  EXPECT_EQ(last.config.training().seed(), 2);
  EXPECT_EQ(last.config.optimizer().lr(), 2e-3);
  EXPECT_EQ(last.config.model().gates_size(), 1);
  EXPECT_EQ(last.config.model().num_layers(), 2);
  EXPECT_THAT(last.choices, ElementsAre(std::pair<std::string, std::string>{"lr", "2e-3"},
                                        std::pair<std::string, std::string>{"gate", "G1"},
                                        std::pair<std::string, std::string>{"seed", "2"}));
}

TEST_F(StudyTest, WithoutAxesIsOneRun) {
  EXPECT_THAT(names("config: 'base.textproto'"), ElementsAre("only"));
  EXPECT_EQ(cells("config: 'base.textproto'").front().config.training().seed(), 7);
}

TEST_F(StudyTest, NamesAreThoseOfFiles) {
  EXPECT_THAT(names("config: 'base.textproto' axis { name: 'a b' field: 'data.tokenizer' value: '../x y' }"),
              ElementsAre("a_b=.._x_y"));
}

TEST_F(StudyTest, TellsEveryMistake) {
  EXPECT_THAT(error_of("axis { field: 'optimizer.lr' value: '1' choice { } } ranks: 0"),
              AllOf(HasSubstr("study.textproto: config is missing"), HasSubstr("axis[0].name is missing"),
                    HasSubstr("axis[0] () needs either a field and values of it, or choices"),
                    HasSubstr("axis[0].choice[0].name is missing"), HasSubstr("ranks=0 must be between 1")));
  EXPECT_THAT(error_of("config: 'base.textproto' stop { window: 0 rise: -1 }"),
              AllOf(HasSubstr("stop.window=0"), HasSubstr("stop.rise=-1")));
  EXPECT_THAT(error_of("config: 'base.textproto' seeds: 1"), HasSubstr("did you mean \"seed\""));
  EXPECT_THAT(error_of("config: 'base.textproto' axis { name: 'lr' field: 'optimizer.lrate' value: '1' }"),
              AllOf(HasSubstr("cell lr=1: "), HasSubstr("lrate")));
  EXPECT_THAT(error_of("config: 'base.textproto' seed: 1 seed: 1"), HasSubstr("two cells have the name seed=1"));
  std::string many = "config: 'base.textproto' ";
  for (int i = 0; i < 20; ++i) many += "axis { name: 'x' field: 'optimizer.lr' value: '1' value: '2' } ";
  EXPECT_THAT(error_of(many), HasSubstr("more than 100000 cells"));
}

}  // namespace
}  // namespace sluice
