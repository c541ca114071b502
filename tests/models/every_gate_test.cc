#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/validate.h"
#include "tests/models/whole_model.h"

// Every gate that the choices of GateSpec give, against its equations.
namespace sluice {
namespace {

/// Where and how wide a gate is; what else there is to choose, the tests go through.
struct Kind {
  std::string position, granularity, sharing;
  std::string placement;  ///< of G3 and G4: before or behind the QK-norm, or where there is none
};
std::string name_of(const Kind& kind) {
  return concat(kind.position, "_", kind.granularity, "_", kind.sharing,
                kind.placement.empty() ? "" : "_" + kind.placement);
}
std::ostream& operator<<(std::ostream& out, const Kind& kind) { return out << name_of(kind); }

std::vector<Kind> kinds() {
  std::vector<Kind> all;
  for (const char* position : {"G1", "G2", "G3", "G4", "G5"}) {
    for (const char* granularity : {"ELEMENTWISE", "HEADWISE"}) {
      for (const char* sharing : {"HEAD_SPECIFIC", "SHARED_SCORES", "SHARED_LOGITS"}) {
        const bool of_query_or_key = std::string(position) == "G3" || std::string(position) == "G4";
        for (const char* placement : {"before_norm", "behind_norm", "no_norm"}) {
          if (of_query_or_key) {
            all.push_back({position, granularity, sharing, placement});
          } else if (std::string(placement) == "no_norm") {
            all.push_back({position, granularity, sharing, ""});
          }
        }
      }
    }
  }
  return all;
}

struct Gate {
  std::string text;
  bool meaningful;
};

/// All gates of a kind, as GateSpec in text.
std::vector<Gate> gates_of(const Kind& kind) {
  std::vector<Gate> gates;
  const bool shared = kind.sharing != "HEAD_SPECIFIC", headwise = kind.granularity == "HEADWISE";
  for (const char* combine : {"MULTIPLY", "ADD"}) {
    for (const char* activation : {"SIGMOID", "SILU", "NS_SIGMOID", "IDENTITY", "TWICE_SIGMOID"}) {
      for (const char* logits : {"", " bias: true", " input: INPUT_INDEPENDENT"}) {
        const bool cancelled = kind.placement == "before_norm" && headwise && std::string(combine) == "MULTIPLY";
        const bool without_heads = kind.position == "G5" && (shared || headwise);
        std::string text = concat("{position: ", kind.position, " granularity: ", kind.granularity,
                                  " combine: ", combine, " activation: ", activation, logits);
        if (shared) text += " sharing: HEAD_SHARED";
        if (kind.sharing == "SHARED_LOGITS") text += " average: LOGITS";
        if (kind.placement == "behind_norm") text += " before_qk_norm: false";
        gates.push_back({text + "}", !cancelled && !without_heads});
      }
    }
  }
  return gates;
}

TrainConfig config_of(const Kind& kind, const std::string& gate) {
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

class EveryGate : public testing::TestWithParam<Kind> {};

TEST_P(EveryGate, IsThatOfItsEquationsOrRefused) {
  for (const Gate& gate : gates_of(GetParam())) {
    SCOPED_TRACE(gate.text);
    if (gate.meaningful) {
      expect_reference(config_of(GetParam(), gate.text));
    } else {
      EXPECT_THROW(config_of(GetParam(), gate.text), Error);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, EveryGate, testing::ValuesIn(kinds()),
                         [](const testing::TestParamInfo<Kind>& info) { return name_of(info.param); });

}  // namespace
}  // namespace sluice
