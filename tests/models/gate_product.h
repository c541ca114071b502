#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "kernels/core/error.h"

// The product of the choices of GateSpec.
namespace sluice {

/// Where and how wide a gate is; what else there is to choose, the tests go through.
struct GateKind {
  std::string position, granularity, sharing;
  std::string placement;  ///< of G3 and G4: before or behind the QK-norm, or where there is none
};
inline std::string name_of(const GateKind& kind) {
  return concat(kind.position, "_", kind.granularity, "_", kind.sharing,
                kind.placement.empty() ? "" : "_" + kind.placement);
}
inline std::ostream& operator<<(std::ostream& out, const GateKind& kind) { return out << name_of(kind); }

inline std::vector<GateKind> gate_kinds() {
  std::vector<GateKind> all;
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

struct GateText {
  std::string text;
  bool meaningful;
};

/// All gates of a kind, as GateSpec in text.
inline std::vector<GateText> gates_of(const GateKind& kind) {
  std::vector<GateText> gates;
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

}  // namespace sluice
