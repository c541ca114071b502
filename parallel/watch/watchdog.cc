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
// What a node reports is long when something is wrong: the last calls, of which rank 0 holds so many.
constexpr int64_t kLongReportMs = 500;
constexpr uint64_t kCallsOfAllRanks = uint64_t{1} << 18;
constexpr int64_t kQuietMs = 2000;
// Until all know what each other's last calls were, and who is silent.
constexpr int64_t kGraceMs = 1000;
// For reports to cross, and others to fail too, after a rank failed.
constexpr int64_t kFailureGraceMs = 600;
constexpr int64_t kVerdictMs = 2000;
constexpr int64_t kConnectMs = 5000;

int64_t milliseconds(double seconds) { return static_cast<int64_t>(seconds * 1e3); }

/// Overdue long enough to speak of it.
bool due(RankState state) {
  if (state.deadline_ms() > 0) state.set_deadline_ms(state.deadline_ms() + kGraceMs);
  if (state.silence_deadline_ms() > 0) state.set_silence_deadline_ms(state.silence_deadline_ms() + kGraceMs);
  return overdue(state);
}

bool somebody_failed(const std::vector<RankState>& states) {
  return std::any_of(states.begin(), states.end(), [](const RankState& state) { return state.failed(); });
}

/// Ranks of the world that are in the group, in its order. Every member calls it.
std::vector<int> members_of(ProcessGroup& group, int own_rank) {
  int32_t own = own_rank;
  std::vector<int32_t> all(static_cast<size_t>(group.size()));
  group.all_gather({&own, DType::kI32, Device::kCpu, {1}}, {all.data(), DType::kI32, Device::kCpu, {group.size()}})
      .wait();
  return {all.begin(), all.end()};
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
  own_slot_->silence_deadline_ms = milliseconds(options_.deadline_s);
  gethostname(own_slot_->host, WatchSlot::kHostBytes - 1);
  publisher_ = std::make_unique<CallPublisher>(*own_slot_);
  for (ProcessGroup* group : mesh.groups()) {
    std::vector<int>& members = members_[group->name()] = members_of(*group, world_.rank());
    publisher_->add(*group, members.front());
  }
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
  try {
    world_.barrier();
  } catch (...) {
    stop();
    throw;
  }
}

void Watchdog::stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

Watchdog::~Watchdog() {
  // Nobody stops beating before all have come this far, unless one fails.
  try {
    if (std::uncaught_exceptions() == exceptions_at_start_) world_.barrier();
  } catch (const Error& error) {
    LOG(ERROR) << "at the end of the watchdog: " << error.what();
  }
  stop();
}

void Watchdog::set_deadline(double seconds) { publisher_->set_deadline_ms(milliseconds(seconds)); }

void Watchdog::await_verdict(const Error& error) {
  int accused = -1;
  if (const auto* mismatch = dynamic_cast<const CountMismatch*>(&error)) {
    const auto group = members_.find(mismatch->group());
    if (group != members_.end()) accused = group->second.at(static_cast<size_t>(mismatch->from()));
  }
  publisher_->set_failed(accused);
  std::this_thread::sleep_for(std::chrono::milliseconds(kVerdictMs));
}

void Watchdog::watch() {
  last_beat_ = Clock::now();
  while (!stop_) {
    std::this_thread::sleep_for(std::chrono::milliseconds(kBeatMs));
    own_slot_->beats.fetch_add(1, std::memory_order_relaxed);
    try {
      look();
    } catch (const std::exception& error) {
      LOG(ERROR) << "the watchdog of rank " << world_.rank() << " cannot see the others: " << error.what();
      std::this_thread::sleep_for(std::chrono::milliseconds(kLongReportMs));
    }
  }
}

void Watchdog::look() {
  const Clock::time_point now = Clock::now();
  const int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(now - last_beat_).count();
  last_beat_ = now;
  grow_older(std::min(ms, kLongestBeatMs));
  until_long_report_ms_ -= ms;
  if (link_) listen();
  failed_for_ms_ = somebody_failed(known_states(1)) ? failed_for_ms_ + ms : 0;
  // A process that was stopped and goes on does not know yet what happened meanwhile.
  quiet_ms_ = ms > kGraceMs ? kQuietMs : std::max<int64_t>(0, quiet_ms_ - ms);
  if (quiet_ms_ > 0 || reported_) return;
  const std::optional<std::string> text = complaint();
  if (!text) return;
  // Several nodes may have found out; who speaks first ends the job.
  const int node = world_.rank() / static_cast<int>(memory_->ranks().size());
  std::this_thread::sleep_for(std::chrono::milliseconds(kTurnMs * std::min(std::max(node, own_ > 0 ? 1 : 0), 5)));
  reported_ = true;
  options_.report(*text);
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

std::vector<RankState> Watchdog::states_of_node(uint64_t most_calls) const {
  std::vector<RankState> states;
  for (size_t i = 0; i < memory_->ranks().size(); ++i) {
    states.push_back(read_slot(slot(i), options_.places, most_calls));
    states.back().set_silent_ms(ages_[i].silent_ms);
    states.back().set_still_ms(ages_[i].still_ms);
  }
  return states;
}

std::vector<RankState> Watchdog::known_states(uint64_t most_calls) const {
  std::vector<RankState> states = states_of_node(most_calls);
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
  const std::vector<RankState> states = states_of_node(1);
  for (const NodeReport& report : link_->receive(states)) {
    for (int i = 0; i < report.ranks_size(); ++i) {
      const RankState& state = report.ranks(i);
      if (state.rank() < 0 || state.rank() >= world_.size()) continue;
      Remote& remote = elsewhere_[state.rank()];
      // The calls of a longer report stay until the next one.
      RankState before = std::move(remote.state);
      remote = {state, i == 0};
      if (before.calls_size() > state.calls_size() && before.started() == state.started()) {
        remote.state.mutable_calls()->Swap(before.mutable_calls());
      }
    }
    connected_ = true;
  }
  const std::vector<RankState> known = known_states(1);
  const bool trouble = std::any_of(known.begin(), known.end(), overdue) || somebody_failed(known);
  const bool at_length = trouble && until_long_report_ms_ <= 0;
  if (at_length) until_long_report_ms_ = kLongReportMs;
  link_->report(at_length ? states_of_node(calls_to_report()) : states);
}

uint64_t Watchdog::calls_to_report() const {
  return std::clamp<uint64_t>(kCallsOfAllRanks / static_cast<uint64_t>(world_.size()), 64, WatchSlot::kCalls);
}

std::optional<std::string> Watchdog::complaint() {
  if (!speaks()) return {};
  const std::vector<RankState> states = known_states(1);
  std::optional<Diagnosis> diagnosis;
  if (std::any_of(states.begin(), states.end(), due)) {
    diagnosis = diagnose(known_states(WatchSlot::kCalls), world_.size());
  } else if (failed_for_ms_ > kFailureGraceMs) {
    diagnosis = diagnose_difference(known_states(WatchSlot::kCalls));
  }
  if (!diagnosis) return {};
  return diagnosis->text;
}

}  // namespace sluice
