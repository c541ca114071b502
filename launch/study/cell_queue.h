#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "launch/study/cell_book.h"

namespace sluice {

/// The cells of a study as one process sees them, which works at one of them at a time.
class CellQueue {
 public:
  static constexpr int64_t kNoneFree = -1;  ///< others work at the rest
  static constexpr int64_t kAllEnded = -2;

  /// `attempts` in vain, and a cell has failed.
  CellQueue(const CellBook& book, std::vector<std::string> cells, int64_t attempts);

  /// Claims a cell that has not ended and that nobody works at, those first that have not been tried in vain. Returns
  /// its number, or one of the above.
  int64_t next();
  /// What has become of the claimed cell, after so many seconds. kNone: it is to be tried again, for this reason.
  /// Throws Error when that cannot be written, and may be called again then.
  void end(CellState::Outcome outcome, const std::string& reason, double seconds);
  /// The same of a cell that waits for another job, through no fault of its own.
  void give_back(double seconds);

  /// Of all processes.
  int64_t count_ended();

 private:
  bool claim(size_t cell, bool tried);
  bool has_ended(size_t cell);
  void leave(const CellState& state);

  const CellBook& book_;
  const std::vector<std::string> cells_;
  const int64_t attempts_;
  std::vector<bool> ended_;
  size_t cell_ = 0;  ///< that is claimed
  CellState state_;
  std::unique_ptr<FileLock> claim_;
};

}  // namespace sluice
