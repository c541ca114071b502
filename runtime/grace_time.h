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
  /// So long they have needed, and a checkpoint, at most; tells again if that is more than it seemed by half.
  void see(double stop_s, double writing_s);

 private:
  /// From a signal to the last file.
  double needed_s() const { return stop_s_ + 2 * writing_s_; }
  void tell();

  const bool speaks_;
  double writing_s_, stop_s_ = 0;
  double told_for_s_ = 0;  // what was needed then
};

}  // namespace sluice
