#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launch/session.h"
#include "models/transformer.h"
#include "runtime/data/tokenizer.h"
#include "runtime/model_state.h"

namespace sluice {

/// A checkpoint's model, ready to be evaluated or sampled on this rank.
class LoadedModel {
 public:
  /// Reads configuration, tokenizer and weights of a step folder, verified by checksum; `overrides` of its
  /// configuration as --set takes them. Throws Error naming what is missing or damaged. Every rank calls it.
  LoadedModel(const std::string& step_dir, Session& session, const std::vector<std::string>& overrides = {});

  const TrainConfig& config() const { return config_; }
  /// Of the checkpoint, before overrides.
  const TrainConfig& trained_config() const { return trained_config_; }
  /// Throws Error when the checkpoint holds none.
  const Tokenizer& tokenizer() const;
  const ModelTensors& weights() const { return model_->weight_tensors; }
  Stream& stream() { return compute_->stream(); }
  /// Ranks that hold the whole model each and share the samples.
  const Mesh& mesh() const { return mesh_; }
  /// With RoPE tables for positions below max_positions.
  Transformer make_transformer(int64_t max_positions);

  bool has_tokenizer() const { return tokenizer_.has_value(); }

 private:
  Mesh mesh_;
  TrainConfig trained_config_, config_;
  std::optional<Tokenizer> tokenizer_;
  std::unique_ptr<Compute> compute_;
  std::unique_ptr<ModelState> model_;
};

}  // namespace sluice
