#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/manifest.pb.h"

namespace sluice {

/// How a parameter or one of its moments differs between checkpoints A and B.
struct TensorDifference {
  enum Finding { kEqual, kDiffers, kOtherType, kOtherShape, kOnlyInA, kOnlyInB };

  std::string name;
  Piece::Kind kind = Piece::MASTER;
  Finding finding = kEqual;
  std::vector<int64_t> shape_a, shape_b;  ///< empty where it is missing
  int64_t elements = 0, differing = 0;    ///< that were compared; whose bits differ
  /// Of differing elements: max |a - b|, infinite where either is not a number; where, and what is there.
  double max_abs_difference = 0, a = 0, b = 0;
  std::vector<int64_t> at;  ///< index of the element
  double relative = 0;      ///< max_abs_difference / max |A|
};

/// What differs between two checkpoints.
struct CheckpointDifference {
  std::vector<TensorDifference> tensors;  ///< of either, by kind and name, equal ones too
  std::vector<std::string> others;        ///< "modified: step: 3 -> 7": differences of all but layout of the pieces

  /// Whether all weights and moments are, to the last bit.
  bool tensors_equal() const;
  /// Whether all is, but for how it is divided into files.
  bool equal() const { return others.empty() && tensors_equal(); }
};

/// Compares two checkpoint folders element by element, whatever layouts wrote them, some megabytes at a time. A NaN
/// equals one of the same bits only, and zeros of two signs differ by 0. Throws Error when either is damaged.
CheckpointDifference diff_checkpoints(const std::string& folder_a, const std::string& folder_b);

}  // namespace sluice
