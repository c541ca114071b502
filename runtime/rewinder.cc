#include "runtime/rewinder.h"

#include <algorithm>

#include <glog/logging.h>

#include "parallel/agree.h"
#include "runtime/metrics/audit_log.h"
#include "runtime/schedule.h"
#include "runtime/stability/indicators.h"
#include "runtime/step_folders.h"

namespace sluice {
namespace {

bool rewinds(const SignalSpike& spike) { return spike.action == SignalPolicy::REWIND; }

/// Why a run goes back: for the spikes whose policy is that, or for skipped updates.
std::string in_words(const std::vector<SignalSpike>& spikes) {
  const bool skipped = std::none_of(spikes.begin(), spikes.end(), rewinds);
  std::string words;
  for (const SignalSpike& spike : spikes) {
    if (skipped ? spike.skips() : rewinds(spike)) words += (words.empty() ? "" : "; ") + spike.in_words();
  }
  return skipped ? "one update after the other is skipped: " + words : words;
}

}  // namespace

bool may_rewind(const StabilityConfig& config) {
  const auto rewinds = [](const SignalPolicy& policy) { return policy.action() == SignalPolicy::REWIND; };
  const std::vector<Indicator> indicators = all_indicators();
  return rewinds(config.lm_loss()) || rewinds(config.grad_norm()) ||
         std::any_of(indicators.begin(), indicators.end(), [&](Indicator i) { return rewinds(policy_of(config, i)); });
}

Rewinder::Rewinder(const RewoundRun& run)
    : run_(run), config_(run.identity.config.stability()), plan_(run.identity.config.stability()) {
  if (!may_rewind(config_)) return;
  ring_.emplace(run_.train_step.optimizer(), config_.rewind().snapshots());
  if (run_.mesh.world().rank() != 0) return;
  LOG(INFO) << "going back before spikes takes memory for " << config_.rewind().snapshots() << " copies of "
            << static_cast<double>(ring_->bytes()) * 1e-6 << " MB on rank 0";
}

bool Rewinder::wanted(const std::vector<SignalSpike>& spikes, int64_t skips_in_a_row) const {
  const int64_t most = config_.rewind().after_skips();
  return std::any_of(spikes.begin(), spikes.end(), rewinds) || (ring_ && most > 0 && skips_in_a_row >= most);
}

bool Rewinder::due(int64_t step) const { return ring_ && step % config_.rewind().snapshot_every() == 0; }

void Rewinder::keep(Stream& s, const SavedPosition& position) {
  if (ring_) ring_->take(s, position);
}

SavedPosition Rewinder::load(Stream& s, int64_t latest, std::string& from) {
  const std::vector<int64_t> kept = ring_->steps();
  const std::optional<int64_t> in_memory = newest_up_to(kept, latest);
  ProcessGroup& world = run_.mesh.world();
  for (int64_t step = newest_checkpoint(world, run_.run_dir, latest + 1); step > in_memory.value_or(-1);
       step = newest_checkpoint(world, run_.run_dir, step)) {
    ResumePoint point;
    from = step_folder(run_.run_dir, step);
    const std::string damage =
        load_checkpoint(from, run_.identity, run_.mesh, run_.model, run_.train_step.optimizer(), point);
    if (!damage.empty()) {
      LOG(WARNING) << damage << "; the run goes back to another state";
      if (world.rank() == 0) append_audit(run_.run_dir, step, "checkpoint_damaged", damage);
      continue;
    }
    ring_->forget_after(step - 1);
    ring_->take(s, point.position);
    return point.position;
  }
  INVARIANT(!kept.empty(), "there is no snapshot to go back to");
  from = "memory";
  SavedPosition position = ring_->restore(s, in_memory.value_or(kept.front()));
  run_.train_step.share_weights();
  return position;
}

SavedPosition Rewinder::go_back(Stream& s, const SavedPosition& now, const std::vector<SignalSpike>& spikes,
                                int64_t skips_in_a_row) {
  const std::string reason = in_words(spikes);
  const bool speaks = run_.mesh.world().rank() == 0;
  if (plan_.exhausted()) {
    const std::string message =
        concat("the run has diverged: it has gone back ", plan_.state().rewinds(), " times, and in step ", now.step,
               " ", reason, "; try a smaller optimizer.lr or more optimizer.warmup_steps");
    if (speaks) append_audit(run_.run_dir, now.step, "diverged", message);
    throw AgreedError(speaks ? message : "", Fault::kDiverged);
  }
  run_.train_step.wait_for_weights();
  std::string from;
  const int64_t since = now.step - std::max(skips_in_a_row - 1, int64_t{0});
  SavedPosition target = load(s, plan_.latest_target(since), from);
  plan_.note(now.step, target.step);
  const TrainingConfig& training = run_.identity.config.training();
  const int64_t used = samples_before(training, target.step + 1);
  const int64_t first = used + target.dropped_samples,
                next = samples_before(training, now.step + 1) + now.dropped_samples;
  target.dropped_samples = next - used;
  // Long since.
  target.unlogged.clear();
  if (!speaks) return target;
  std::string told = concat(reason, "; the run goes back to step ", target.step, " from ", from, ", samples ", first,
                            " to ", next - 1, " are dropped");
  if (lr_factor(target.step + 1) < 1) {
    told += concat(", the learning rate is multiplied by ", lr_factor(target.step + 1), " up to step ",
                   plan_.state().lr_until_step());
  }
  LOG(WARNING) << "step " << now.step << ": " << told;
  append_audit(run_.run_dir, now.step, "rewind", told);
  return target;
}

}  // namespace sluice
