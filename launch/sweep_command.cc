#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include <fmt/format.h>
#include <glog/logging.h>

#include "launch/commands.h"
#include "launch/study/cell_queue.h"
#include "launch/study/finished_run.h"
#include "launch/study/study.h"
#include "launch/sweep_cell.h"
#include "parallel/agree.h"
#include "parallel/mpi_session.h"
#include "parallel/thread_group.h"
#include "runtime/config.h"
#include "runtime/config_report.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/output_file.h"
#include "runtime/plan/fit.h"
#include "runtime/same_run.h"
#include "runtime/signals.h"
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

/// That cells which have ended were trained with what the study says now.
void check_ended(const SharedStudy& shared, const CellBook& book) {
  for (const Cell& cell : shared.cells) {
    const std::string kept = book.run_dir(cell.name) + "/config.textproto";
    if (!book.state(cell.name).ended() || !std::filesystem::exists(kept)) continue;
    const TrainConfig run = parse_config(std::string(MappedFile(kept).bytes()), kept);
    const std::string changes = check_same_run(run, with_machine_of(run, cell.config), kept);
    ENSURE(changes.empty(), kept, " is of a cell that has ended, and the study has changed since: ", changes,
           "; choose another --run, or remove the cell's folder");
  }
}

/// Cells that an earlier job has given up are tried again.
void forget_failures(const SharedStudy& shared, const CellBook& book) {
  for (const Cell& cell : shared.cells) {
    CellState state = book.state(cell.name);
    if (state.outcome != CellState::Outcome::kFailed) continue;
    const auto claim = book.claim(cell.name);
    if (!claim) continue;
    state.outcome = CellState::Outcome::kNone;
    state.vain_starts = 0;
    book.set_state(cell.name, state);
  }
}

void keep_study(const std::string& file, const std::string& folder) {
  OutputFile kept(folder + "/study.textproto");
  kept.write(MappedFile(file).bytes());
  kept.commit();
}

/// Rank 0 reads and checks the study and prepares its folder.
SharedStudy share_study(const SweepOptions& options, Session& session) {
  ProcessGroup& world = session.world();
  SharedStudy shared;
  agree(world, [&] {
    if (world.rank() != 0) return;
    shared.study = load_study(options.study);
    shared.cells = cells_of(shared.study, options.study);
    ENSURE(world.size() % shared.study.ranks() == 0, options.study, ": ranks=", shared.study.ranks(),
           " of a cell, but the job has ", world.size(), " ranks, which that does not divide");
    check_cells(shared, session);
    const CellBook book(options.run_dir);
    check_ended(shared, book);
    forget_failures(shared, book);
    keep_study(options.study, options.run_dir);
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
std::unique_ptr<ProcessGroup> cell_group(ProcessGroup& world, int ranks) {
  if (world.size() > 1 && !std::getenv("OMPI_MCA_orte_enable_recovery") && std::getenv("OMPI_COMM_WORLD_SIZE") &&
      world.rank() == 0) {
    LOG(WARNING) << "without mpirun --enable-recovery a rank that dies ends the whole job";
  }
  if (ranks == 1) return std::move(make_thread_groups(1).front());
  return world.split([ranks](int rank) { return rank / ranks; }, "cell");
}

/// One group's part of the job.
class Worker {
 public:
  Worker(const SharedStudy& shared, const std::string& folder, ProcessGroup& group)
      : shared_(shared), group_(group), book_(folder), queue_(book_, shared.names(), shared.study.attempts()) {}

  /// Works until all cells have ended or a signal comes. Returns whether they have.
  bool run() {
    for (;;) {
      int64_t cell = group_.rank() == 0 ? choose() : 0;
      group_.broadcast({&cell, DType::kI64, Device::kCpu, {1}}, 0).wait();
      if (cell == CellQueue::kAllEnded) return true;
      if (cell == kStopped || (cell >= 0 && !run(static_cast<size_t>(cell)))) return false;
    }
  }

  CellBook& book() { return book_; }

 private:
  static constexpr int64_t kStopped = -3;

  /// Waits until there is a cell to run, or none any more.
  int64_t choose() {
    constexpr std::chrono::milliseconds kPause(200);
    for (;;) {
      if (stop_signal_came()) return kStopped;
      const int64_t next = queue_.next();
      if (next != CellQueue::kNoneFree) return next;
      std::this_thread::sleep_for(kPause);
    }
  }

  /// Whether the job goes on.
  bool run(size_t number) {
    const Cell& cell = shared_.cells[number];
    const std::string run_dir = book_.run_dir(cell.name);
    const Clock::time_point start = Clock::now();
    const CellResult result = run_cell(cell.config, shared_.study.stop(), run_dir, group_);
    if (group_.rank() != 0) return !result.stopped;
    if (result.stopped) {
      queue_.give_back(seconds_since(start));
    } else {
      queue_.end(result.outcome, result.reason, seconds_since(start));
      tell(cell, result, seconds_since(start));
    }
    return !result.stopped;
  }

  void tell(const Cell& cell, const CellResult& result, double seconds) {
    const bool ended = result.outcome != CellState::Outcome::kNone;
    std::string text = fmt::format("cell {}: {} after {:.1f} s", cell.name,
                                   ended ? name_of(result.outcome) : "ended before its end", seconds);
    if (result.outcome == CellState::Outcome::kDone) {
      text += fmt::format(", loss {:.4f}", read_run(book_.run_dir(cell.name)).loss);
    } else {
      text += ": " + result.reason;
    }
    if (ended) text += fmt::format(" ({} of {} have ended)", queue_.count_ended(), shared_.cells.size());
    fmt::print(stderr, "{}\n", text);
  }

  const SharedStudy& shared_;
  ProcessGroup& group_;
  CellBook book_;
  CellQueue queue_;
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
  const SharedStudy shared = share_study(options, session);
  const std::string folder = broadcast_string(session.world(), options.run_dir);
  const std::unique_ptr<ProcessGroup> group = cell_group(session.world(), static_cast<int>(shared.study.ranks()));
  if (session.world().size() > 1) fail_alone();
  if (group->rank() == 0) FLAGS_minloglevel = google::GLOG_INFO;
  if (session.world().rank() == 0) {
    fmt::print(stderr, "{} cells, {} at a time; each tells of itself in {}/cells/CELL/log\n", shared.cells.size(),
               session.world().size() / shared.study.ranks(), folder);
  }
  Worker worker(shared, folder, *group);
  const bool complete = worker.run();
  if (group->rank() != 0) return;
  const bool last = worker.book().leave();
  if (!complete)
    throw AgreedError(last ? "stopped by a signal; what is missing runs when the study is started again" : "",
                      Fault::kPreempted);
  if (!last) return;
  const int64_t failed = print_table(shared, worker.book());
  const std::string message = fmt::format(
      "{} of {} cells have failed; they are tried again when the study is started again", failed, shared.cells.size());
  if (failed > 0) throw AgreedError(message, Fault::kUser);
}

}  // namespace sluice
