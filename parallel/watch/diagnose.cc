#include "parallel/watch/diagnose.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include "kernels/core/error.h"

namespace sluice {
namespace {

// A watchdog beats ten times a second.
constexpr int64_t kSilentMs = 1000;

using States = std::vector<const RankState*>;

std::string seconds(int64_t ms) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", static_cast<double>(ms) * 1e-3);
  return text;
}

std::string who(const RankState& state) {
  return concat("rank ", state.rank(), " (", state.host(), ", process ", state.process(), ")");
}

/// "a, b and c".
std::string listed(const std::vector<std::string>& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) text += (i == 0 ? "" : i + 1 == parts.size() ? " and " : ", ") + parts[i];
  return text;
}

std::string numbered(const std::vector<int>& ranks) {
  std::vector<std::string> numbers;
  for (int rank : ranks) numbers.push_back(std::to_string(rank));
  return (ranks.size() == 1 ? "rank " : "ranks ") + listed(numbers);
}

const WatchedCall* last_call(const RankState& state) {
  return state.calls().empty() ? nullptr : &state.calls(state.calls_size() - 1);
}

std::string where(const WatchedCall& call) {
  return concat(call.text(), call.place().empty() ? "" : ", " + call.place(), ", step ", call.step());
}

std::string last_seen(const RankState& state) {
  if (in_call(state)) return "it is in " + where(state.awaited());
  const WatchedCall* call = last_call(state);
  return call ? "its last call was " + where(*call) : "no call of it is known";
}

/// "; waiting: ranks 0 and 2 in tp.all_reduce ..., for 3.1 s" for all in a call that are not culprits.
std::string waiting(const States& states, const std::set<int>& culprits) {
  std::map<std::string, std::pair<std::vector<int>, int64_t>> by_call;
  for (const RankState* state : states) {
    if (!in_call(*state) || culprits.contains(state->rank())) continue;
    auto& [ranks, still] = by_call[where(state->awaited())];
    ranks.push_back(state->rank());
    still = std::max(still, state->still_ms());
  }
  std::string text;
  for (const auto& [call, waiters] : by_call) {
    text += concat(text.empty() ? "; waiting: " : "; ", numbered(waiters.first), " in ", call, ", for ",
                   seconds(waiters.second));
  }
  return text;
}

Diagnosis found(const States& states, const std::vector<int>& culprits, const std::string& text) {
  return {culprits, text + waiting(states, {culprits.begin(), culprits.end()})};
}

std::optional<Diagnosis> silent_ranks(const States& states) {
  std::vector<int> culprits;
  std::vector<std::string> parts;
  for (const RankState* state : states) {
    if (state->silence_deadline_ms() == 0 || state->silent_ms() < kSilentMs) continue;
    culprits.push_back(state->rank());
    parts.push_back(concat(who(*state), " is silent for ", seconds(state->silent_ms()), ": ", last_seen(*state)));
  }
  if (culprits.empty()) return {};
  return found(states, culprits, listed(parts));
}

/// A call, with whom made it.
struct MadeCall {
  const RankState* state;
  int position;  ///< in its calls
  const WatchedCall& call() const { return state->calls(position); }
};

/// How many calls up to the one at `end` this rank made earlier in the same order: what it does out of habit has a long
/// one.
int64_t habit(const RankState& state, int end) {
  int64_t longest = 0;
  for (int earlier = 0; earlier < end; ++earlier) {
    int same = 0;
    while (same <= earlier && state.calls(earlier - same).text() == state.calls(end - same).text()) ++same;
    longest = std::max<int64_t>(longest, same);
  }
  return longest;
}

/// Those whose call most others contradict. Between as many, those that go against their own habit; all, if even that
/// does not tell.
std::vector<MadeCall> outvoted(const std::vector<MadeCall>& made) {
  std::map<uint64_t, int64_t> votes;
  for (const MadeCall& m : made) ++votes[m.call().hash()];
  std::vector<std::pair<int64_t, int64_t>> merits;
  for (const MadeCall& m : made) {
    merits.emplace_back(votes[m.call().hash()], habit(*m.state, m.position));
  }
  const size_t best = static_cast<size_t>(std::max_element(merits.begin(), merits.end()) - merits.begin());
  std::vector<MadeCall> others, equals;
  for (size_t i = 0; i < made.size(); ++i) {
    if (made[i].call().hash() == made[best].call().hash()) continue;
    (merits[i] == merits[best] ? equals : others).push_back(made[i]);
  }
  return equals.empty() ? others : made;
}

/// Ranks make the same calls in the same order, each in its own groups.
std::optional<Diagnosis> differing_ranks(const States& states) {
  std::map<std::pair<int64_t, int64_t>, std::vector<MadeCall>> by_place;
  for (const RankState* state : states) {
    for (int i = 0; i < state->calls_size(); ++i) {
      const WatchedCall& call = state->calls(i);
      if (call.scheduled() > 0) by_place[{call.step(), call.scheduled()}].push_back({state, i});
    }
  }
  for (const auto& [place, made] : by_place) {
    const auto differs = [&](const MadeCall& m) { return m.call().hash() != made.front().call().hash(); };
    if (std::none_of(made.begin(), made.end(), differs)) continue;
    std::vector<int> culprits;
    std::vector<std::string> parts;
    for (const MadeCall& other : outvoted(made)) {
      culprits.push_back(other.state->rank());
      parts.push_back(who(*other.state) + " called " + where(other.call()));
    }
    std::string text = listed(parts);
    for (const MadeCall& m : made) {
      if (std::find(culprits.begin(), culprits.end(), m.state->rank()) != culprits.end()) continue;
      text += concat(", where rank ", m.state->rank(), " called ", where(m.call()));
      break;
    }
    return found(states, culprits, text);
  }
  return {};
}

/// Of ranks that received another count than they expected, most received it from the one that is wrong.
std::optional<Diagnosis> accused_ranks(const States& states) {
  std::map<int, int64_t> accusers;
  for (const RankState* state : states) {
    if (state->has_accused()) ++accusers[state->accused()];
  }
  int64_t most = 0;
  for (const auto& [rank, count] : accusers) most = std::max(most, count);
  std::vector<int> culprits;
  std::vector<std::string> parts;
  for (const RankState* state : states) {
    const auto at = accusers.find(state->rank());
    if (at == accusers.end() || at->second < most) continue;
    culprits.push_back(state->rank());
    parts.push_back(who(*state) + " sends another count than others expect: " + last_seen(*state));
  }
  if (culprits.empty()) return {};
  return found(states, culprits, listed(parts));
}

int64_t sequence_in(const RankState& state, const std::string& group) {
  for (const WatchedGroup& entry : state.groups()) {
    if (entry.key() == group) return entry.sequence();
  }
  return -1;
}

/// Members of the group that `state` is in a call of, which have not come to that call.
States awaited_by(const RankState& state, const States& states) {
  States awaited;
  if (!in_call(state)) return awaited;
  for (const RankState* other : states) {
    const int64_t sequence = sequence_in(*other, state.awaited().group());
    if (sequence >= 0 && sequence < state.awaited().sequence()) awaited.push_back(other);
  }
  return awaited;
}

std::optional<Diagnosis> missing_ranks(const States& states) {
  // From each overdue rank to whom it waits for, until that one waits for nobody.
  std::set<const RankState*> seen, last;
  States open;
  for (const RankState* state : states) {
    if (overdue(*state)) open.push_back(state);
  }
  while (!open.empty()) {
    const RankState* state = open.back();
    open.pop_back();
    if (!seen.insert(state).second) continue;
    const States awaited = awaited_by(*state, states);
    if (awaited.empty()) last.insert(state);
    open.insert(open.end(), awaited.begin(), awaited.end());
  }
  if (last.empty()) {  // they wait for each other: the one that is furthest behind
    const auto behind = [](const RankState* a, const RankState* b) { return a->started() < b->started(); };
    last.insert(*std::min_element(seen.begin(), seen.end(), behind));
  }
  std::vector<int> culprits;
  std::vector<std::string> parts;
  for (const RankState* state : states) {
    if (!last.contains(state)) continue;
    if (state->still_ms() < state->deadline_ms()) return {};  // slow, but moving
    culprits.push_back(state->rank());
    parts.push_back(who(*state) + (in_call(*state) ? " does not get on: " : " has not come: ") + last_seen(*state) +
                    ", " + seconds(state->still_ms()) + " ago");
  }
  return found(states, culprits, listed(parts));
}

States sorted(const std::vector<RankState>& states) {
  States pointers;
  for (const RankState& state : states) pointers.push_back(&state);
  std::sort(pointers.begin(), pointers.end(),
            [](const RankState* a, const RankState* b) { return a->rank() < b->rank(); });
  return pointers;
}

}  // namespace

bool in_call(const RankState& state) { return state.has_awaited(); }

bool overdue(const RankState& state) {
  const auto beyond = [](int64_t ms, int64_t deadline) { return deadline > 0 && ms > deadline; };
  return beyond(state.silent_ms(), state.silence_deadline_ms()) ||
         (in_call(state) && beyond(state.still_ms(), state.deadline_ms()));
}

std::optional<Diagnosis> diagnose(const std::vector<RankState>& states, int world_size) {
  const States all = sorted(states);
  if (auto diagnosis = silent_ranks(all)) return diagnosis;
  if (auto diagnosis = diagnose_difference(states)) return diagnosis;
  if (static_cast<int>(states.size()) < world_size) return {};
  return missing_ranks(all);
}

std::optional<Diagnosis> diagnose_difference(const std::vector<RankState>& states) {
  const States all = sorted(states);
  if (auto diagnosis = differing_ranks(all)) return diagnosis;
  return accused_ranks(all);
}

}  // namespace sluice
