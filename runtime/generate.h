#pragma once

#include <functional>
#include <span>
#include <vector>

#include "runtime/step.h"

namespace sluice {

struct GenerateOptions {
  int64_t tokens = 128;      ///< at most so many new ones
  double temperature = 0.8;  ///< 0: always the likeliest
  uint64_t seed = 1;
  int32_t end_token = -1;                  ///< stops after it; -1: never
  int64_t prompt_tokens_at_a_time = 2048;  ///< a longer prompt at once would take memory for all that its layers save
  std::vector<bool> drawable;              ///< [ids] which ids may be drawn, larger ones may not; empty: all
};

/// Continues `prompt` (at least one token) with a key-value cache and hands each new token to `on_token`. The draw of
/// token i is a function of (seed, i). The transformer's tables must reach prompt + options.tokens positions.
/// Every rank of dp calls it with the same arguments and gets the same tokens.
void generate(Stream& s, const Mesh& mesh, const Transformer& transformer, const ModelTensors& weights,
              std::span<const int32_t> prompt, const GenerateOptions& options,
              const std::function<void(int32_t)>& on_token);

}  // namespace sluice
