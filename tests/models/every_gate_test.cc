#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/models/gate_product.h"
#include "tests/models/whole_model.h"

// Every gate that the choices of GateSpec give, against its equations.
namespace sluice {
namespace {

TrainConfig config_of(const GateKind& kind, const std::string& gate) {
  std::vector<std::string> overrides = {"model.moe=",
                                        "model.intermediate_size=5",
                                        "model.hidden_size=8",
                                        "model.head_dim=4",
                                        "model.num_layers=1",
                                        "model.vocab_size=11",
                                        "training.sequence_length=5",
                                        "training.micro_batch_size=2",
                                        "training.global_batch_size=2",
                                        "model.gates[0]=" + gate};
  if (kind.placement == "no_norm") overrides.push_back("model.qk_norm=false");
  return tiny_config(overrides);
}

class EveryGate : public testing::TestWithParam<GateKind> {};

TEST_P(EveryGate, IsThatOfItsEquationsOrRefused) {
  for (const GateText& gate : gates_of(GetParam())) {
    SCOPED_TRACE(gate.text);
    if (gate.meaningful) {
      expect_reference(config_of(GetParam(), gate.text));
    } else {
      EXPECT_THROW(config_of(GetParam(), gate.text), Error);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, EveryGate, testing::ValuesIn(gate_kinds()),
                         [](const testing::TestParamInfo<GateKind>& info) { return name_of(info.param); });

}  // namespace
}  // namespace sluice
