#pragma once

#include <map>
#include <string>
#include <tuple>

#include "configs/train.pb.h"
#include "runtime/plan/machine.h"

namespace sluice {

/// The speed of ops that were timed: an op of the same kind and size takes as long as those did in the mean, another
/// one as long as its kind does for so many operations or bytes.
class MeasuredSpeed : public OpSpeed {
 public:
  void add(const OpCost& cost, double seconds);
  double seconds(const OpCost& cost) const override;
  /// Of ranks that share a core: so many times as long.
  void slow_down(double factor) { factor_ *= factor; }

 private:
  double as_timed(const OpCost& cost) const;

  struct Sum {
    double calls = 0, seconds = 0, flops = 0, bytes = 0;
  };
  std::map<std::tuple<std::string, double, double>, Sum> timed_;
  std::map<std::string, Sum> kinds_;
  double factor_ = 1;
};

/// What this machine is to a rank of a run.
struct Calibration {
  MeasuredSpeed speed;
  double copied_bytes_per_s = 0;
  bool timed = false;  ///< false: even a part of the model would take this machine too much memory or time
};

/// Times the ops of a rank of a validated configuration by some steps of it with two layers, and fewer tokens, experts
/// and words where they would take long; `neighbours` others keep the machine busy in the same way meanwhile. Takes
/// some seconds.
Calibration calibrate(const TrainConfig& config, int neighbours);

}  // namespace sluice
