#pragma once

#include <vector>

#include "parallel/owned_parts.h"

namespace sluice {

/// Brings updated weights from the ranks that own their parts to all that hold copies, in the order in which the
/// forward pass needs them.
class ParameterGather {
 public:
  /// weights [layout.count]; all three must outlive the gather.
  ParameterGather(const Mesh& mesh, const FlatLayout& layout, Tensor weights);

  /// Starts with the first stage. Every rank of the mesh calls it after its update.
  void start();
  /// Waits until the weights of a stage, or of all, are there.
  void wait(int stage);
  void wait_all();

 private:
  const Mesh& mesh_;
  const FlatLayout& layout_;
  Tensor weights_;
  std::vector<OwnedPart> parts_;
  std::vector<Event> events_;  // of each bucket
};

}  // namespace sluice
