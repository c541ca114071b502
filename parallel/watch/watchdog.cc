#include "parallel/watch/watchdog.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <unistd.h>

#include <glog/logging.h>

#include "parallel/watch/diagnose.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kBeatMs = 100;
// A longer pause between two beats is one of this process, which says nothing about the others.
constexpr int64_t kLongestBeatMs = 500;
constexpr int64_t kTurnMs = 400;
constexpr int64_t kQuietMs = 2000;
// Until all know what each other's last calls were, and who is silent.
constexpr int64_t kGraceMs = 1000;
// For reports to cross, after a rank failed.
constexpr int64_t kVerdictMs = 1000;
constexpr int64_t kConnectMs = 5000;

int64_t milliseconds(double seconds) { return static_cast<int64_t>(seconds * 1e3); }

/// Overdue long enough to speak of it.
bool due(RankState state) {
  if (state.deadline_ms() == 0) return false;
  state.set_deadline_ms(state.deadline_ms() + kGraceMs);
  return overdue(state);
}

bool somebody_failed(const std::vector<RankState>& states) {
  return std::any_of(states.begin(), states.end(), [](const RankState& state) { return state.failed(); });
}

/// The rank of the world that is rank 0 in the group. Every member calls it.
int first_of(ProcessGroup& group, int own_rank) {
  int64_t rank = own_rank;
  group.broadcast({&rank, DType::kI64, Device::kCpu, {1}}, 0).wait();
  return static_cast<int>(rank);
}

}  // namespace

Watchdog::Watchdog(const Mesh& mesh, WatchdogOptions options)
    : options_(std::move(options)),
      world_(mesh.world()),
      memory_(world_.share(static_cast<int64_t>(sizeof(WatchSlot)))),
      exceptions_at_start_(std::uncaught_exceptions()) {
  const std::vector<int>& node = memory_->ranks();
  own_ = static_cast<size_t>(std::find(node.begin(), node.end(), world_.rank()) - node.begin());
  own_slot_ = new (memory_->part(own_)) WatchSlot{};
  own_slot_->rank = world_.rank();
  own_slot_->process = getpid();
  gethostname(own_slot_->host, WatchSlot::kHostBytes - 1);
  publisher_ = std::make_unique<CallPublisher>(*own_slot_);
  for (ProcessGroup* group : mesh.groups()) publisher_->add(*group, first_of(*group, world_.rank()));
  reset_deadline();
  ages_.resize(node.size());
  role_ = world_.rank() == 0 ? NodeLink::Role::kHub : own_ == 0 ? NodeLink::Role::kSpoke : NodeLink::Role::kBystander;
  // All slots are there from here on.
  world_.barrier();
  if (static_cast<int>(node.size()) < world_.size()) link_ = std::make_unique<NodeLink>(world_, role_);
  thread_ = std::thread([this] { watch(); });
  // Nobody goes on before the nodes know each other, or seem not to reach each other.
  for (int64_t ms = 0; role_ == NodeLink::Role::kSpoke && !connected_ && ms < kConnectMs; ms += kBeatMs / 4) {
    std::this_thread::sleep_for(std::chrono::milliseconds(kBeatMs / 4));
  }
  if (role_ == NodeLink::Role::kSpoke && !connected_) {
    LOG(ERROR) << "the watchdog of rank " << world_.rank() << " does not reach that of rank 0 by TCP: "
               << "who holds up the job can be told within a node only";
  }
  world_.barrier();
}

Watchdog::~Watchdog() {
  // Nobody stops beating before all have come this far, unless it fails.
  if (std::uncaught_exceptions() == exceptions_at_start_) world_.barrier();
  stop_ = true;
  thread_.join();
}

void Watchdog::set_deadline(double seconds) { publisher_->set_deadline_ms(milliseconds(seconds)); }

void Watchdog::await_verdict() {
  publisher_->set_failed();
  std::this_thread::sleep_for(std::chrono::milliseconds(kVerdictMs));
}

void Watchdog::watch() {
  Clock::time_point last = Clock::now();
  int64_t quiet_ms = 0;
  while (!stop_) {
    std::this_thread::sleep_for(std::chrono::milliseconds(kBeatMs));
    own_slot_->beats.fetch_add(1, std::memory_order_relaxed);
    const Clock::time_point now = Clock::now();
    const int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(now - last).count();
    last = now;
    grow_older(std::min(ms, kLongestBeatMs));
    if (link_) listen();
    // A process that was stopped and goes on does not know yet what happened meanwhile.
    quiet_ms = ms > kGraceMs ? kQuietMs : std::max<int64_t>(0, quiet_ms - ms);
    if (quiet_ms > 0) continue;
    if (const std::optional<std::string> text = complaint()) {
      // Several nodes may have found out; who speaks first ends the job.
      std::this_thread::sleep_for(std::chrono::milliseconds(kTurnMs * std::min(world_.rank(), 5)));
      options_.report(*text);
      return;
    }
  }
}

void Watchdog::grow_older(int64_t ms) {
  for (size_t i = 0; i < ages_.size(); ++i) {
    Age& age = ages_[i];
    const uint64_t beats = slot(i).beats.load(std::memory_order_relaxed);
    const uint64_t progress = slot(i).progress.load(std::memory_order_relaxed);
    age.silent_ms = beats == age.beats ? age.silent_ms + ms : 0;
    age.still_ms = progress == age.progress ? age.still_ms + ms : 0;
    age.beats = beats;
    age.progress = progress;
  }
  for (auto& [rank, remote] : elsewhere_) {
    if (remote.reports) remote.state.set_silent_ms(remote.state.silent_ms() + ms);
    remote.state.set_still_ms(remote.state.still_ms() + ms);
  }
}

std::vector<RankState> Watchdog::states_of_node(bool all_calls) const {
  std::vector<RankState> states;
  for (size_t i = 0; i < memory_->ranks().size(); ++i) {
    states.push_back(read_slot(slot(i), options_.places, all_calls));
    states.back().set_silent_ms(ages_[i].silent_ms);
    states.back().set_still_ms(ages_[i].still_ms);
  }
  return states;
}

std::vector<RankState> Watchdog::known_states(bool all_calls) const {
  std::vector<RankState> states = states_of_node(all_calls);
  for (const auto& [rank, remote] : elsewhere_) states.push_back(remote.state);
  return states;
}

bool Watchdog::speaks() const {
  for (size_t i = 0; i < own_; ++i) {
    if (ages_[i].silent_ms < kGraceMs) return false;
  }
  return true;
}

void Watchdog::listen() {
  if (role_ == NodeLink::Role::kBystander) return;
  std::vector<RankState> states = states_of_node(false);
  const bool trouble = std::any_of(states.begin(), states.end(), overdue) || somebody_failed(known_states(false));
  if (trouble) states = states_of_node(true);
  for (const NodeReport& report : link_->receive(states)) {
    for (int i = 0; i < report.ranks_size(); ++i) {
      const RankState& state = report.ranks(i);
      if (state.rank() >= 0 && state.rank() < world_.size()) elsewhere_[state.rank()] = {state, i == 0};
    }
    connected_ = true;
  }
  link_->report(states);
}

std::optional<std::string> Watchdog::complaint() {
  if (!speaks()) return {};
  const std::vector<RankState> states = known_states(false);
  std::optional<Diagnosis> diagnosis;
  if (std::any_of(states.begin(), states.end(), due)) {
    diagnosis = diagnose(known_states(true), world_.size());
  } else if (somebody_failed(states)) {
    diagnosis = diagnose_difference(known_states(true));
  }
  if (!diagnosis) return {};
  return diagnosis->text;
}

}  // namespace sluice
