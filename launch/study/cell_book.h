#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/files/file_lock.h"

namespace sluice {

/// How far a cell of a study is, as DIR/cells/NAME/cell.json keeps it.
struct CellState {
  enum class Outcome { kNone, kDone, kDiverged, kFailed };
  Outcome outcome = Outcome::kNone;
  std::string reason{};     ///< why it has diverged or failed, or why its last start ended
  int64_t starts = 0;       ///< in all
  int64_t vain_starts = 0;  ///< of these the last ones, without a newer checkpoint
  int64_t checkpoint = -1;  ///< step of its newest when it was last started; -1: none
  double seconds = 0;       ///< of all starts that came to an end

  bool ended() const { return outcome != Outcome::kNone; }
};
const char* name_of(CellState::Outcome outcome);

inline constexpr const char* kCellFile = "cell.json";
/// Throws Error naming the file when it is damaged.
CellState read_cell_state(const std::string& path);
/// The names of a study's cells as CellBook::keep_study() has left them; empty: the folder is none of a study.
std::vector<std::string> cells_listed_in(const std::string& folder);

/// The cells of a study in its folder: whose turn it is, and what has become of them. Processes of any job and host may
/// use it at the same time, as far as the file system's locks go.
class CellBook {
 public:
  /// Creates the folders. Throws Error naming --run when that fails, or the file system has no locks.
  explicit CellBook(std::string folder);
  /// Whether no other process uses the book any more; this one no longer counts as one that does.
  bool leave() { return users_->take() == FileLock::Result::kTaken; }

  static std::string run_dir(const std::string& folder, const std::string& cell) { return folder + "/cells/" + cell; }
  std::string run_dir(const std::string& cell) const { return run_dir(folder_, cell); }

  /// Keeps a file of the study's folder, DIR/study.textproto, and the names of its cells, DIR/cells.txt. Throws Error
  /// naming what cannot be written.
  void keep_study(std::string_view text, const std::vector<std::string>& cells) const;

  /// Throws Error naming the file when it is damaged.
  CellState state(const std::string& cell) const;
  /// Only with its claim.
  void set_state(const std::string& cell, const CellState& state) const;

  /// The right to work at a cell, until the lock goes, at the latest with this process. Null: another one has it.
  /// Throws Error when the file system refuses locks.
  std::unique_ptr<FileLock> claim(const std::string& cell) const;

 private:
  const std::string folder_;
  std::optional<FileLock> users_;  ///< shared by all processes
};

}  // namespace sluice
