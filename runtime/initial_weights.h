#pragma once

#include <string>
#include <vector>

#include "configs/train.pb.h"
#include "runtime/optimizer.h"

namespace sluice {

/// Throws Error when a model splits its attention into other heads than the one that was saved at `path`: other heads
/// of the same width in all do not show in any shape.
void check_heads(const ModelConfig& saved, const ModelConfig& model, const std::string& path);

/// Throws Error when the feed-forward layers, or experts, of a model are not as wide as those that were saved at
/// `path`. Both configurations say the width that model.ffn_parity_multiple left.
void check_width(const ModelConfig& saved, const ModelConfig& model, const std::string& path);

/// Overwrites the weights that this rank holds with those of a checkpoint, whatever layout wrote it; with
/// missing: INIT what it lacks stays as it is. Throws Error when the checkpoint is damaged, has a parameter that the
/// model lacks or another shape, heads or feed-forward layers of another size, or lacks a parameter and may not; all
/// that it lacks are named. Returns the names of those that stay.
std::vector<std::string> load_initial_weights(const InitialCheckpoint& from, const ModelConfig& config,
                                              ModelState& model);

/// For load: ALL. Fills the moments that this rank keeps of the parameters that a checkpoint has, and the count of the
/// updates that they remember. Throws Error when the checkpoint is damaged, or has weights only.
void load_initial_moments(const InitialCheckpoint& from, const ModelState& model, Optimizer& optimizer);

}  // namespace sluice
