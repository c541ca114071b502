#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <glog/logging.h>

#include "launch/commands.h"
#include "launch/study/cell_queue.h"
#include "launch/study/finished_run.h"
#include "launch/study/study.h"
#include "launch/sweep_cell.h"
#include "parallel/agree.h"
#include "parallel/thread_group.h"
#include "runtime/config.h"
#include "runtime/config_report.h"
#include "runtime/files/mapped_file.h"
#include "runtime/plan/fit.h"
#include "runtime/same_run.h"
#include "runtime/signals.h"
#include "runtime/step_folders.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// A study as all ranks know it.
struct SharedStudy {
  Study study;
  std::vector<Cell> cells;

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const Cell& cell : cells) names.push_back(cell.name);
    return names;
  }
};

void check_cells(SharedStudy& shared, const Session& session) {
  ConfigReport report;
  const int64_t memory = node_memory_bytes();
  for (Cell& cell : shared.cells) {
    report.collect([&] {
      try {
        validate_training(cell.config, static_cast<int>(shared.study.ranks()), session.cores_per_rank());
        const std::string problem = why_it_does_not_fit(cell.config, 0, session.ranks_on_node(), memory);
        ENSURE(problem.empty(), problem);
      } catch (const Error& error) {
        ENSURE(false, "cell ", cell.name, ": ", error.what());
      }
    });
  }
  report.finish();
}

/// What the result of a run does not depend on is taken from `run`.
TrainConfig with_machine_of(const TrainConfig& run, TrainConfig config) {
  *config.mutable_cpu() = run.cpu();
  *config.mutable_mesh() = run.mesh();
  *config.mutable_watchdog() = run.watchdog();
  *config.mutable_plan() = run.plan();
  *config.mutable_logging() = run.logging();
  *config.mutable_checkpoint() = run.checkpoint();
  return config;
}

/// That cells which have ended, or would go on, were trained with what the study says now. One that has failed may need
/// another configuration.
void check_trained(const SharedStudy& shared, const CellBook& book) {
  for (const Cell& cell : shared.cells) {
    const std::string kept = book.run_dir(cell.name) + "/config.textproto";
    const CellState state = book.state(cell.name);
    const bool goes_on = !state.ended() && !checkpoint_steps(book.run_dir(cell.name)).empty();
    if (!goes_on && (!state.ended() || state.outcome == CellState::Outcome::kFailed)) continue;
    if (!std::filesystem::exists(kept)) continue;
    const TrainConfig run = parse_config(std::string(MappedFile(kept).bytes()), kept);
    const std::string changes = check_same_run(run, with_machine_of(run, cell.config), kept);
    ENSURE(changes.empty(), kept, " is of a cell that has ", goes_on ? "begun" : "ended",
           ", and the study has changed since: ", changes, "; choose another --run, or remove the cell's folder");
  }
}

/// Cells that an earlier job has given up, or started in vain, are tried as often again.
void forget_failures(const SharedStudy& shared, const CellBook& book) {
  for (const Cell& cell : shared.cells) {
    const auto claim = book.claim(cell.name);
    if (!claim) continue;
    CellState state = book.state(cell.name);
    const bool failed = state.outcome == CellState::Outcome::kFailed;
    if (!failed && (state.ended() || state.vain_starts == 0)) continue;
    state.outcome = CellState::Outcome::kNone;
    state.vain_starts = 0;
    book.set_state(cell.name, state);
  }
}

bool is_complete(const SharedStudy& shared, const CellBook& book) {
  return std::all_of(shared.cells.begin(), shared.cells.end(),
                     [&](const Cell& cell) { return book.state(cell.name).ended(); });
}

/// Rank 0 reads and checks the study and prepares its folder.
SharedStudy share_study(const SweepOptions& options, Session& session) {
  ProcessGroup& world = session.world();
  SharedStudy shared;
  // The others wait for rank 0, which plans every cell.
  const GroupDeadline deadline(world, "the ranks of a study while it is read", 3600);
  agree(world, [&] {
    if (world.rank() != 0) return;
    shared.study = load_study(options.study);
    shared.cells = cells_of(shared.study, options.study);
    check_cells(shared, session);
    const CellBook book(options.run_dir);
    check_trained(shared, book);
    forget_failures(shared, book);
    // A complete study needs no ranks to be looked at.
    ENSURE(world.size() % shared.study.ranks() == 0 || is_complete(shared, book), options.study,
           ": ranks=", shared.study.ranks(), " of a cell, but the job has ", world.size(),
           " ranks, which that does not divide");
    book.keep_study(MappedFile(options.study).bytes(), shared.names());
  });
  const std::string study = broadcast_string(world, shared.study.SerializeAsString());
  int64_t cells = static_cast<int64_t>(shared.cells.size());
  world.broadcast({&cells, DType::kI64, Device::kCpu, {1}}, 0).wait();
  shared.cells.resize(static_cast<size_t>(cells));
  INVARIANT(shared.study.ParseFromString(study), "the study arrived damaged");
  for (Cell& cell : shared.cells) {
    cell.name = broadcast_string(world, cell.name);
    INVARIANT(cell.config.ParseFromString(broadcast_string(world, cell.config.SerializeAsString())),
              "a configuration arrived damaged");
  }
  return shared;
}

/// The ranks that work at one cell. From here on those of others are not asked for anything.
std::unique_ptr<ProcessGroup> cell_group(Session& session, int ranks) {
  ProcessGroup& world = session.world();
  const bool by_mpirun = std::getenv("OMPI_COMMAND");
  const bool others_go_on = !by_mpirun || std::getenv("OMPI_MCA_orte_enable_recovery");
  if (world.size() > 1 && !others_go_on && world.rank() == 0) {
    LOG(WARNING) << "without mpirun --enable-recovery a rank that dies ends the whole job";
  }
  if (others_go_on) session.outlive_others();
  if (ranks == 1) return std::move(make_thread_groups(1).front());
  return world.split([ranks](int rank) { return rank / ranks; }, "cell");
}

/// One group's part of the job.
class Worker {
 public:
  enum class End { kComplete, kStopped, kFailed };

  /// `book` on the group's first rank, null on the others.
  Worker(const SharedStudy& shared, const std::string& folder, const CellBook* book, ProcessGroup& group)
      : shared_(shared), folder_(folder), group_(group) {
    if (book) queue_.emplace(*book, shared.names(), shared.study.attempts());
  }

  /// Works until all cells have ended, a signal comes, or the study's folder cannot be written for long.
  End run() {
    constexpr std::chrono::milliseconds kPause(200);
    for (;;) {
      int64_t cell = group_.rank() == 0 ? decide() : 0;
      {
        const GroupDeadline deadline(group_, "the ranks of a group between cells");
        group_.broadcast({&cell, DType::kI64, Device::kCpu, {1}}, 0).wait();
      }
      if (cell == CellQueue::kAllEnded) return End::kComplete;
      if (cell == kStopped) return End::kStopped;
      if (cell == kFailed) return End::kFailed;
      if (cell == CellQueue::kNoneFree) {
        std::this_thread::sleep_for(kPause);
      } else if (run(static_cast<size_t>(cell)).stopped) {
        // Calls of a step that was left are still under way in the group.
        if (group_.rank() == 0) decide();
        return End::kStopped;
      }
    }
  }

  /// Why it has failed.
  const std::string& problem() const { return problem_; }

 private:
  static constexpr int64_t kStopped = -3, kFailed = -4;

  struct Run {
    const Cell& cell;
    CellResult result;
    double seconds;
  };

  /// Notes what became of the last cell and chooses the next. What cannot be written is tried again for a while.
  int64_t decide() {
    constexpr double kPatience_s = 300;
    try {
      note_last();
      if (stop_signal_came()) return kStopped;
      const int64_t next = queue_->next();
      failing_since_.reset();
      return next;
    } catch (const Error& error) {
      if (stop_signal_came()) return kStopped;
      if (!failing_since_) {
        failing_since_ = Clock::now();
        LOG(WARNING) << error.what() << "; it is tried again for " << kPatience_s << " s";
      }
      if (seconds_since(*failing_since_) < kPatience_s) return CellQueue::kNoneFree;
      problem_ = error.what();
      return kFailed;
    }
  }

  void note_last() {
    if (!last_) return;
    const CellResult& result = last_->result;
    if (result.stopped) {
      queue_->give_back(last_->seconds);
    } else {
      queue_->end(result.outcome, result.reason, last_->seconds);
    }
    const Run noted = *std::exchange(last_, std::nullopt);
    if (!noted.result.stopped) tell(noted.cell, noted.result, noted.seconds);
  }

  CellResult run(size_t number) {
    const Cell& cell = shared_.cells[number];
    const Clock::time_point start = Clock::now();
    const CellResult result =
        run_cell(cell.config, shared_.study.stop(), CellBook::run_dir(folder_, cell.name), group_);
    if (group_.rank() == 0) last_.emplace(Run{cell, result, seconds_since(start)});
    return result;
  }

  void tell(const Cell& cell, const CellResult& result, double seconds) {
    const bool ended = result.outcome != CellState::Outcome::kNone;
    std::string text = fmt::format("cell {}: {} after {:.1f} s", cell.name,
                                   ended ? name_of(result.outcome) : "ended before its end", seconds);
    if (result.outcome == CellState::Outcome::kDone) {
      text += fmt::format(", loss {:.4f}", read_run(CellBook::run_dir(folder_, cell.name)).loss);
    } else {
      text += ": " + result.reason;
    }
    if (ended) text += fmt::format(" ({} of {} have ended)", queue_->count_ended(), shared_.cells.size());
    fmt::print(stderr, "{}\n", text);
  }

  const SharedStudy& shared_;
  const std::string folder_;
  ProcessGroup& group_;
  std::optional<CellQueue> queue_;  ///< of the first rank
  std::optional<Run> last_;         ///< that has not been noted
  std::optional<Clock::time_point> failing_since_;
  std::string problem_;
};

/// Of all cells, to standard output. Returns how many have failed.
int64_t print_table(const SharedStudy& shared, const CellBook& book) {
  size_t width = 4;
  for (const Cell& cell : shared.cells) width = std::max(width, cell.name.size());
  fmt::print("{:<{}}  {:<8} {:>8} {:>9} {:>9} {:>6}\n", "cell", width, "outcome", "step", "loss", "seconds", "starts");
  int64_t failed = 0;
  for (const Cell& cell : shared.cells) {
    const CellState state = book.state(cell.name);
    const FinishedRun run = read_run(book.run_dir(cell.name));
    failed += state.outcome == CellState::Outcome::kFailed;
    fmt::print("{:<{}}  {:<8} {:>8} {:>9} {:>9.1f} {:>6}{}{}\n", cell.name, width, name_of(state.outcome),
               run.steps.empty() ? 0 : run.steps.back().step, run.steps.empty() ? "-" : fmt::format("{:.4f}", run.loss),
               state.seconds, state.starts, state.reason.empty() ? "" : "  ", state.reason);
  }
  return failed;
}

}  // namespace

void run_sweep(const SweepOptions& options, Session& session) {
  ProcessGroup& world = session.world();
  const SharedStudy shared = share_study(options, session);
  std::optional<GroupDeadline> deadline(std::in_place, world, "the ranks of a study at its start");
  const std::string folder = broadcast_string(world, options.run_dir);
  const int ranks = static_cast<int>(shared.study.ranks());
  const bool only_looks = world.size() % ranks != 0;
  std::optional<CellBook> book;
  // All before any of them can be the last to leave.
  agree(world, [&] {
    if (only_looks ? world.rank() == 0 : world.rank() % ranks == 0) book.emplace(folder);
  });
  Worker::End end = Worker::End::kComplete;
  std::unique_ptr<ProcessGroup> group;
  if (!only_looks) group = cell_group(session, ranks);
  deadline.reset();
  if (!only_looks) {
    if (world.rank() == 0) {
      fmt::print(stderr, "{} cells, {} at a time; each tells of itself in {}/cells/CELL/log\n", shared.cells.size(),
                 world.size() / ranks, folder);
    }
    if (book) FLAGS_minloglevel = google::GLOG_INFO;
    Worker worker(shared, folder, book ? &*book : nullptr, *group);
    end = worker.run();
    // Which its ranks could give up in good order only.
    if (end == Worker::End::kStopped && ranks > 1) static_cast<void>(group.release());
    if (end == Worker::End::kFailed) throw AgreedError(worker.problem(), Fault::kUser);
  }
  const bool last = book && book->leave();
  if (end == Worker::End::kStopped) {
    throw AgreedError(last ? "stopped by a signal; what is missing runs when the study is started again" : "",
                      Fault::kPreempted);
  }
  if (!last) return;
  const int64_t failed = print_table(shared, *book);
  const std::string message = fmt::format(
      "{} of {} cells have failed; they are tried again when the study is started again", failed, shared.cells.size());
  if (failed > 0) throw AgreedError(message, Fault::kUser);
}

}  // namespace sluice
