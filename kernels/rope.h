#pragma once

#include <vector>

#include "kernels/core/stream.h"

namespace sluice {

/// Rotary position embedding [su2021 eq. 34], rotate-half pairing (i, i + head_dim / 2).
///   x          [tokens, heads, head_dim]          f32 | f64, head_dim even
///   positions  [tokens] i32                       position of each token in its document, below max_positions
///   cosine     [max_positions, head_dim / 2]      dtype of x
///   sine       [max_positions, head_dim / 2]      dtype of x
///   y          [tokens, heads, head_dim]          out, may alias x
/// Throws Error on a shape or dtype mismatch or a position out of the table.
void rope_forward(Stream& s, Tensor x, Tensor positions, Tensor cosine, Tensor sine, Tensor y);

/// dx from dy: the rotation by the opposite angle. dx may alias dy.
void rope_backward(Stream& s, Tensor dy, Tensor positions, Tensor cosine, Tensor sine, Tensor dx);

/// YaRN [peng2023]: how a model that was trained on `original_length` positions takes `factor` times as many. Planes
/// that turn more than beta_fast times within the original length keep their frequency, those below beta_slow are
/// slowed down by the factor, those between in part; and queries and keys are scaled.
struct Yarn {
  double factor = 1;  ///< 1: as trained
  double original_length = 1;
  double beta_fast = 32, beta_slow = 1;
};

/// [head_dim / 2] Radians a position of each plane: base^(-2 i / head_dim), or what YaRN makes of it.
std::vector<double> rope_frequencies(double base, int64_t head_dim, const Yarn& yarn = {});

/// What YaRN scales queries and keys by, 0.1 ln(factor) + 1.
double rope_amplitude(const Yarn& yarn);

/// Fills cosine and sine with the angles position * frequency, computed in f64, times the amplitude.
void rope_tables(double base, const Yarn& yarn, Tensor cosine, Tensor sine);

}  // namespace sluice
