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

std::string where(const WatchedCall& call, const RankState& state) {
  return concat(call.text(), call.place().empty() ? "" : ", " + call.place(), ", step ", state.step());
}

std::string last_seen(const RankState& state) {
  const WatchedCall* call = last_call(state);
  if (!call) return "it has made no call yet";
  return concat(in_call(state) ? "it is in " : "its last call was ", where(*call, state), " (call ", call->sequence(),
                " of the group)");
}

/// "; waiting: ranks 0 and 2 in tp.all_reduce ..., for 3.1 s" for all in a call that are not culprits.
std::string waiting(const States& states, const std::set<int>& culprits) {
  std::map<std::string, std::pair<std::vector<int>, int64_t>> by_call;
  for (const RankState* state : states) {
    const WatchedCall* call = last_call(*state);
    if (!call || !in_call(*state) || culprits.contains(state->rank())) continue;
    auto& [ranks, still] = by_call[where(*call, *state)];
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
    if (state->deadline_ms() == 0 || state->silent_ms() < kSilentMs) continue;
    culprits.push_back(state->rank());
    parts.push_back(concat(who(*state), " is silent for ", seconds(state->silent_ms()), ": ", last_seen(*state)));
  }
  if (culprits.empty()) return {};
  return found(states, culprits, listed(parts));
}

/// A call in a group, with whom made it.
struct MadeCall {
  const RankState* state;
  const WatchedCall* call;
};

/// How many calls of the group up to `call` this rank made earlier in the same order: what it does out of habit has a
/// long one.
int64_t habit(const RankState& state, const WatchedCall& call) {
  std::vector<const WatchedCall*> calls;
  for (const WatchedCall& other : state.calls()) {
    if (other.group() == call.group() && other.sequence() <= call.sequence()) calls.push_back(&other);
  }
  int64_t longest = 0;
  for (size_t end = 0; end + 1 < calls.size(); ++end) {
    int64_t same = 0;
    while (same <= static_cast<int64_t>(end) && calls[end - static_cast<size_t>(same)]->text() ==
                                                    calls[calls.size() - 1 - static_cast<size_t>(same)]->text()) {
      ++same;
    }
    longest = std::max(longest, same);
  }
  return longest;
}

/// The ranks that most others contradict. Between as many, those go against their own habit; without habits, those that
/// have made fewer calls in the group.
std::vector<MadeCall> outvoted(const std::vector<MadeCall>& members, const std::vector<MadeCall>& voters) {
  std::map<uint64_t, int64_t> votes;
  for (const MadeCall& voter : voters) ++votes[voter.call->hash()];
  const auto better = [&](const MadeCall& a, const MadeCall& b) {
    const auto merit = [&](const MadeCall& m) {
      int64_t sequence = 0;
      for (const WatchedGroup& group : m.state->groups()) {
        if (group.key() == m.call->group()) sequence = group.sequence();
      }
      return std::tuple(votes[m.call->hash()], habit(*m.state, *m.call), sequence);
    };
    return merit(a) < merit(b);
  };
  const MadeCall best = *std::max_element(members.begin(), members.end(), better);
  std::vector<MadeCall> others;
  for (const MadeCall& member : members) {
    if (member.call->hash() != best.call->hash()) others.push_back(member);
  }
  return others;
}

std::optional<Diagnosis> differing_ranks(const States& states) {
  // By group and place in its order; and by name, as groups of one name make the same calls.
  std::map<std::pair<std::string, int64_t>, std::vector<MadeCall>> by_group, by_name;
  for (const RankState* state : states) {
    for (const WatchedCall& call : state->calls()) {
      by_group[{call.group(), call.sequence()}].push_back({state, &call});
      by_name[{call.name(), call.sequence()}].push_back({state, &call});
    }
  }
  for (const auto& [key, members] : by_group) {
    const auto differs = [&](const MadeCall& m) { return m.call->hash() != members.front().call->hash(); };
    if (std::none_of(members.begin(), members.end(), differs)) continue;
    const std::vector<MadeCall> others = outvoted(members, by_name[{members.front().call->name(), key.second}]);
    std::vector<int> culprits;
    std::vector<std::string> parts;
    for (const MadeCall& other : others) {
      culprits.push_back(other.state->rank());
      parts.push_back(who(*other.state) + " called " + where(*other.call, *other.state));
    }
    const auto usual = std::find_if(members.begin(), members.end(), [&](const MadeCall& m) {
      return std::find(culprits.begin(), culprits.end(), m.state->rank()) == culprits.end();
    });
    return found(states, culprits, concat(listed(parts), ", where ", numbered({usual->state->rank()}), " called ",
                                          where(*usual->call, *usual->state), " (call ", key.second, " of the group)"));
  }
  return {};
}

int64_t sequence_in(const RankState& state, const std::string& group) {
  for (const WatchedGroup& entry : state.groups()) {
    if (entry.key() == group) return entry.sequence();
  }
  return -1;
}

/// Members of the group that `state` is in a call of, which have not come to that call.
States awaited_by(const RankState& state, const States& states) {
  const WatchedCall* call = last_call(state);
  States awaited;
  if (!call || !in_call(state)) return awaited;
  for (const RankState* other : states) {
    const int64_t sequence = sequence_in(*other, call->group());
    if (sequence >= 0 && sequence < call->sequence()) awaited.push_back(other);
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

bool in_call(const RankState& state) { return state.started() > state.finished(); }

bool overdue(const RankState& state) {
  if (state.deadline_ms() == 0) return false;
  return state.silent_ms() > state.deadline_ms() || (in_call(state) && state.still_ms() > state.deadline_ms());
}

std::optional<Diagnosis> diagnose(const std::vector<RankState>& states, int world_size) {
  const States all = sorted(states);
  if (auto diagnosis = silent_ranks(all)) return diagnosis;
  if (auto diagnosis = differing_ranks(all)) return diagnosis;
  if (static_cast<int>(states.size()) < world_size) return {};
  return missing_ranks(all);
}

std::optional<Diagnosis> diagnose_difference(const std::vector<RankState>& states) {
  return differing_ranks(sorted(states));
}

}  // namespace sluice
