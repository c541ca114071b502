#include "launch/study/cell_queue.h"

#include <utility>

#include "kernels/core/error.h"
#include "runtime/step_folders.h"

namespace sluice {
namespace {

int64_t newest_checkpoint_of(const std::string& run_dir) {
  const std::vector<int64_t> steps = checkpoint_steps(run_dir);
  return steps.empty() ? -1 : steps.back();
}

}  // namespace

CellQueue::CellQueue(const CellBook& book, std::vector<std::string> cells, int64_t attempts)
    : book_(book), cells_(std::move(cells)), attempts_(attempts), ended_(cells_.size()) {}

int64_t CellQueue::next() {
  for (const bool tried : {false, true}) {
    for (size_t cell = 0; cell < cells_.size(); ++cell) {
      if (claim(cell, tried)) return static_cast<int64_t>(cell);
    }
  }
  return count_ended() == static_cast<int64_t>(cells_.size()) ? kAllEnded : kNoneFree;
}

bool CellQueue::claim(size_t cell, bool tried) {
  const std::string& name = cells_[cell];
  if (has_ended(cell)) return false;
  std::unique_ptr<FileLock> lock = book_.claim(name);
  if (!lock) return false;
  // It may have ended before it could be claimed.
  CellState state = book_.state(name);
  ended_[cell] = state.ended();
  if (ended_[cell]) return false;
  const int64_t checkpoint = newest_checkpoint_of(book_.run_dir(name));
  if (checkpoint > state.checkpoint) state.vain_starts = 0;
  if (state.vain_starts > 0 && !tried) return false;
  if (state.vain_starts >= attempts_) {
    state.outcome = CellState::Outcome::kFailed;
    if (state.reason.empty()) state.reason = concat("its process died, ", state.vain_starts, " times in a row");
    book_.set_state(name, state);
    ended_[cell] = true;
    return false;
  }
  state.checkpoint = checkpoint;
  state.reason.clear();
  ++state.starts;
  ++state.vain_starts;
  book_.set_state(name, state);
  cell_ = cell;
  state_ = state;
  claim_ = std::move(lock);
  return true;
}

void CellQueue::end(CellState::Outcome outcome, const std::string& reason, double seconds) {
  CellState state = state_;
  state.outcome = outcome;
  state.reason = reason;
  state.seconds += seconds;
  leave(state);
}

void CellQueue::give_back(double seconds) {
  CellState state = state_;
  --state.vain_starts;
  state.seconds += seconds;
  leave(state);
}

void CellQueue::leave(const CellState& state) {
  INVARIANT(claim_, "no cell is claimed");
  book_.set_state(cells_[cell_], state);
  ended_[cell_] = state.ended();
  claim_.reset();
}

bool CellQueue::has_ended(size_t cell) {
  if (!ended_[cell]) ended_[cell] = book_.state(cells_[cell]).ended();
  return ended_[cell];
}

int64_t CellQueue::count_ended() {
  int64_t count = 0;
  for (size_t cell = 0; cell < cells_.size(); ++cell) count += has_ended(cell);
  return count;
}

}  // namespace sluice
