#include "launch/sweep_cell.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <unistd.h>

#include "launch/session.h"
#include "launch/study/stop_rule.h"
#include "parallel/agree.h"
#include "runtime/files/output_file.h"
#include "runtime/signals.h"
#include "runtime/train.h"

namespace sluice {
namespace {

class CellHooks : public RunHooks {
 public:
  explicit CellHooks(const StopRule& rule) : watch_(rule) {}
  bool stop_asked() override { return stop_signal_came(); }
  std::string why_diverged(const StepMetrics& metrics) override { return watch_.see(metrics.step, metrics.lm_loss); }

 private:
  StopRuleWatch watch_;
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
  agree(group, [&] {
    create_parent_folder(run_dir + "/log");
    log = std::make_unique<StandardErrorTo>(run_dir + "/log");
    compute.emplace(config.cpu());
  });
  PhaseTimer startup;
  CellHooks hooks(stop);
  train(config, run_dir, group, compute->stream(), startup, &hooks);
}

}  // namespace

CellResult run_cell(const TrainConfig& config, const StopRule& stop, const std::string& run_dir, ProcessGroup& group) {
  try {
    train_cell(config, stop, run_dir, group);
    return {CellState::Outcome::kDone};
  } catch (const AgreedError& error) {
    if (error.fault() == Fault::kPreempted) return {CellState::Outcome::kNone, "", true};
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
