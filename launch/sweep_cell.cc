#include "launch/sweep_cell.h"

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include <glog/logging.h>

#include "launch/session.h"
#include "launch/study/stop_rule.h"
#include "parallel/agree.h"
#include "runtime/files/output_file.h"
#include "runtime/signals.h"
#include "runtime/train.h"

namespace sluice {
namespace {

/// What stops a cell. The least means of its losses outlive the session, as of a few seconds before its end, in a file
/// beside it: a step and a mean a line.
class CellHooks : public RunHooks {
 public:
  CellHooks(const StopRule& rule, const std::string& run_dir, ProcessGroup& group)
      : watch_(rule), path_(run_dir + "/least_loss"), writes_(group.rank() == 0 && rule.has_rise()) {
    std::vector<double> falls;
    if (writes_) {
      std::ifstream file(path_);
      for (double step = 0, mean = 0; file >> step >> mean;) falls.insert(falls.end(), {step, mean});
    }
    int64_t count = static_cast<int64_t>(falls.size());
    group.broadcast({&count, DType::kI64, Device::kCpu, {1}}, 0).wait();
    falls.resize(static_cast<size_t>(count));
    if (count > 0) group.broadcast({falls.data(), DType::kF64, Device::kCpu, {count}}, 0).wait();
    std::vector<StopRuleWatch::Least> least;
    for (size_t i = 0; i < falls.size(); i += 2) least.push_back({std::llround(falls[i]), falls[i + 1]});
    watch_.go_on(std::move(least));
  }
  ~CellHooks() override { write(); }
  CellHooks(const CellHooks&) = delete;
  CellHooks& operator=(const CellHooks&) = delete;

  bool stop_asked() override { return stop_signal_came(); }
  std::string why_diverged(const StepMetrics& metrics) override {
    constexpr std::chrono::seconds kEvery(5);
    const std::string reason = watch_.see(metrics.step, metrics.lm_loss);
    if (std::chrono::steady_clock::now() >= written_ + kEvery) write();
    return reason;
  }

 private:
  void write() {
    written_ = std::chrono::steady_clock::now();
    if (!writes_ || watch_.falls().empty()) return;
    std::string lines;
    for (const auto& [step, mean] : watch_.falls()) lines += concat(step, " ", mean, "\n");
    try {
      OutputFile file(path_);
      file.write(lines);
      file.commit();
    } catch (const Error& error) {
      LOG(WARNING) << error.what();
    }
  }

  StopRuleWatch watch_;
  const std::string path_;
  const bool writes_;
  std::chrono::steady_clock::time_point written_ = std::chrono::steady_clock::now();
};

/// Standard error is a file's end, as long as this lives.
class StandardErrorTo {
 public:
  explicit StandardErrorTo(const std::string& path) : own_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    ENSURE(file >= 0, path, ": cannot open: ", std::strerror(errno));
    ::dup2(file, STDERR_FILENO);
    ::close(file);
  }
  ~StandardErrorTo() {
    ::dup2(own_, STDERR_FILENO);
    ::close(own_);
  }
  StandardErrorTo(const StandardErrorTo&) = delete;
  StandardErrorTo& operator=(const StandardErrorTo&) = delete;

 private:
  const int own_;
};

void train_cell(const TrainConfig& config, const StopRule& stop, const std::string& run_dir, ProcessGroup& group) {
  std::unique_ptr<StandardErrorTo> log;
  std::optional<Compute> compute;
  std::optional<CellHooks> hooks;
  {
    const GroupDeadline deadline(group, "the ranks of a cell at its start");
    agree(group, [&] {
      create_parent_folder(run_dir + "/log");
      log = std::make_unique<StandardErrorTo>(run_dir + "/log");
      compute.emplace(config.cpu());
    });
    hooks.emplace(stop, run_dir, group);
  }
  PhaseTimer startup;
  train(config, run_dir, group, compute->stream(), startup, &*hooks);
}

}  // namespace

CellResult run_cell(const TrainConfig& config, const StopRule& stop, const std::string& run_dir, ProcessGroup& group) {
  try {
    train_cell(config, stop, run_dir, group);
    return {CellState::Outcome::kDone};
  } catch (const AgreedError& error) {
    if (error.fault() == Fault::kPreempted) return {CellState::Outcome::kNone, "", true};
    const GroupDeadline deadline(group, "the ranks of a cell at its end");
    const std::string reason = shared_message(group, error);
    if (error.fault() == Fault::kDiverged) return {CellState::Outcome::kDiverged, reason};
    // Also one that had nothing to save yet.
    int64_t stopped = stop_signal_came();
    group.all_reduce({&stopped, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax).wait();
    return {CellState::Outcome::kNone, reason, stopped && error.fault() != Fault::kNotSaved};
  } catch (const std::exception& error) {
    // Others of the group may be anywhere; a rank by itself can go on.
    if (group.size() > 1) throw;
    return {CellState::Outcome::kNone, error.what()};
  }
}

}  // namespace sluice
