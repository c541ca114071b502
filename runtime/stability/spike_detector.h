#pragma once

#include <optional>

#include "configs/manifest.pb.h"
#include "configs/train.pb.h"
#include "runtime/stability/rolling_window.h"

namespace sluice {

/// What a value of a signal is beside those before it.
struct SpikeReading {
  double baseline = 0;  ///< median of the values before; NaN: there were too few
  double trend = 0;     ///< what the next value was expected to be
  double noise = 0;     ///< scatter of the signal about its own trend, as a standard deviation
  double score = 0;     ///< how far the value is above the trend, in units of noise; infinite if it is not finite
  double limit = 0;     ///< above which it is a spike
  bool spike = false;
};

/// Finds values of a signal that lie above what its own past explains, from that past alone. The level is the median of
/// the last values, the trend how values have lain beside that level of late, so that a falling loss is no signal; the
/// noise is taken from the lower side of the scatter, where spikes are not. While few values are known, more is asked
/// of a spike. Value semantics: a copy goes on alike.
class SpikeDetector {
 public:
  explicit SpikeDetector(const StabilityConfig& config);

  /// Above it the next value is a spike; infinite while too few values are known.
  double limit() const;
  /// Judges the next value, then learns from it, unless it is not finite or above 1e300, which is always a spike.
  SpikeReading see(double value);

  /// What it has learnt, and to go on with that. Of windows that are smaller now the oldest values are left out. Throws
  /// Error when a value is not finite.
  SignalState state() const;
  void restore(const SignalState& state);

 private:
  /// What the next value is judged by, once enough values are known.
  struct Scale {
    double trend, noise, limit;
  };
  std::optional<Scale> scale() const;
  bool has_level() const;
  bool has_trend() const;

  double threshold_;
  RollingWindow level_;  ///< values
  RollingWindow trend_;  ///< values less the level
  RollingWindow noise_;  ///< values less level and trend
};

}  // namespace sluice
