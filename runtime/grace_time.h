#pragma once

namespace sluice {

/// How long a signal waits for the end of the job at most, which users tell their batch system: until all ranks know,
/// for a checkpoint that is being written, for the last one, as much again, and for the launcher.
class GraceTime {
 public:
  /// One rank speaks. A checkpoint is expected to take so many seconds.
  GraceTime(bool speaks, double writing_s) : speaks_(speaks), writing_s_(writing_s) {}

  /// Tells it, once it is known how long the ranks need to hear of a signal.
  void tell(double stop_s);
  /// A checkpoint has taken so long; tells again if that is longer than it seemed.
  void see_writing(double seconds);

 private:
  void tell() const;

  const bool speaks_;
  double writing_s_, stop_s_ = -1;  // < 0: not known yet
};

}  // namespace sluice
