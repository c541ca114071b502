#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Floating-point operations a second that all threads of the stream's pool reach together in f32 fused multiply-adds
/// on registers: what "model FLOPs utilisation" is a share of. Takes a few milliseconds.
double measure_peak_flops(Stream& s);

}  // namespace sluice
