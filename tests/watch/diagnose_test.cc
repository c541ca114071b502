#include "parallel/watch/diagnose.h"

#include <gmock/gmock.h>

#include "parallel/call_book.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kDeadline = 5000;

/// Ranks that make the same calls, until a test says otherwise.
class Job {
 public:
  explicit Job(int ranks) {
    for (int rank = 0; rank < ranks; ++rank) {
      RankState state;
      state.set_rank(rank);
      state.set_host("node");
      state.set_process(100 + rank);
      state.set_deadline_ms(kDeadline);
      state.set_silence_deadline_ms(kDeadline);
      state.set_step(7);
      for (const char* group : {"world", "tp"}) state.add_groups()->set_key(key(rank, group));
      states.push_back(state);
    }
  }

  /// Ranks of a pair make a group "tp", all ranks "world".
  void begin(int rank, const std::string& group, const std::string& operation) {
    RankState& state = states[static_cast<size_t>(rank)];
    WatchedGroup* entry = state.mutable_groups(group == "tp" ? 1 : 0);
    entry->set_sequence(entry->sequence() + 1);
    const uint64_t before = state.calls().empty() ? 0 : state.calls(state.calls_size() - 1).hash();
    state.set_started(state.started() + 1);
    WatchedCall* call = state.add_calls();
    call->set_step(7);
    call->set_scheduled(state.started());
    call->set_group(entry->key());
    call->set_sequence(entry->sequence());
    call->set_text(group + "." + operation);
    call->set_hash(rolled(before, std::hash<std::string>()(call->text())));
    call->set_place("layer 3 forward");
    *state.mutable_awaited() = *call;
  }
  void make(int rank, const std::string& group, const std::string& operation) {
    begin(rank, group, operation);
    states[static_cast<size_t>(rank)].clear_awaited();
  }
  /// The rank does nothing for so long.
  void wait(int rank, int64_t ms) { states[static_cast<size_t>(rank)].set_still_ms(ms); }

  std::vector<int> culprits() const {
    const auto diagnosis = diagnose(states, static_cast<int>(states.size()));
    return diagnosis ? diagnosis->culprits : std::vector<int>();
  }
  std::string text() const {
    const auto diagnosis = diagnose(states, static_cast<int>(states.size()));
    return diagnosis ? diagnosis->text : "";
  }

  static std::string key(int rank, const std::string& group) {
    return group + "#" + std::to_string(group == "tp" ? rank / 2 * 2 : 0);
  }

  std::vector<RankState> states;
};

TEST(Diagnose, TheSilentRankIsNamedWithItsLastCallAndWhoWaits) {
  Job job(4);
  for (int rank = 0; rank < 4; ++rank) job.make(rank, "tp", "all_gather");
  for (int rank : {0, 1, 3}) {
    job.begin(rank, "world", "barrier");
    job.wait(rank, kDeadline + 1);
  }
  job.states[2].set_silent_ms(kDeadline);
  EXPECT_THAT(job.culprits(), ElementsAre(2));
  EXPECT_THAT(job.text(), HasSubstr("rank 2 (node, process 102) is silent for 5.0 s: its last call was tp.all_gather"));
  EXPECT_THAT(job.text(),
              HasSubstr("; waiting: ranks 0, 1 and 3 in world.barrier, layer 3 forward, step 7, for 5.0 s"));
}

TEST(Diagnose, OfFourRanksTheOneWithAnotherCallIsNamed) {
  for (int culprit = 0; culprit < 4; ++culprit) {
    Job job(4);
    for (int rank = 0; rank < 4; ++rank) {
      job.make(rank, "tp", "all_gather");
      if (rank != culprit) job.make(rank, "tp", "reduce_scatter");
      job.begin(rank, "world", "barrier");
      job.wait(rank, kDeadline + 1);
    }
    EXPECT_THAT(job.culprits(), ElementsAre(culprit));
    EXPECT_THAT(job.text(), HasSubstr("called world.barrier, layer 3 forward, step 7, where rank"));
  }
}

TEST(Diagnose, OfTwoRanksTheOneThatGoesAgainstItsHabitIsNamed) {
  for (int culprit = 0; culprit < 2; ++culprit) {
    Job job(2);
    for (int rank = 0; rank < 2; ++rank) {
      for (int step = 0; step < 3; ++step) {
        for (int layer = 0; layer < 4; ++layer) {
          job.make(rank, "tp", "all_gather");
          if (rank != culprit || step < 2 || layer != 2) job.make(rank, "tp", "reduce_scatter");
        }
        job.make(rank, "world", "all_reduce");
      }
    }
    EXPECT_THAT(job.culprits(), ElementsAre(culprit));
  }
}

TEST(Diagnose, WithoutMajorityOrHabitBothAreNamed) {
  Job job(2);
  job.begin(0, "tp", "all_gather");
  job.begin(1, "tp", "barrier");
  EXPECT_THAT(job.culprits(), ElementsAre(0, 1));
}

TEST(Diagnose, CallsBetweenStepsMayDiffer) {
  Job job(2);
  job.make(0, "world", "receive");
  job.make(1, "world", "send");
  for (RankState& state : job.states) state.mutable_calls(0)->set_scheduled(0);
  job.begin(0, "tp", "all_gather");
  for (int rank : {0, 1}) job.wait(rank, kDeadline + 1);
  EXPECT_THAT(job.culprits(), ElementsAre(1));
  EXPECT_THAT(job.text(), HasSubstr("rank 1 (node, process 101) has not come"));
}

TEST(Diagnose, OfThreeRanksTheOneThatMostAccuseIsNamed) {
  for (int culprit = 0; culprit < 3; ++culprit) {
    Job job(3);
    for (int rank = 0; rank < 3; ++rank) {
      job.begin(rank, "world", "all_to_all");
      job.states[static_cast<size_t>(rank)].set_accused(rank == culprit ? (rank + 1) % 3 : culprit);
    }
    EXPECT_THAT(job.culprits(), ElementsAre(culprit));
  }
}

TEST(Diagnose, WhoHasNotComeIsFoundThroughThoseWhoWaitForEachOther) {
  Job job(4);
  for (int rank = 0; rank < 4; ++rank) job.make(rank, "world", "broadcast");
  // 2 and 3 wait for the first pair in world; in that, 0 waits for 1 in tp.
  job.begin(0, "tp", "all_gather");
  for (int rank : {2, 3}) {
    job.make(rank, "tp", "all_gather");
    job.begin(rank, "world", "all_reduce");
  }
  for (int rank : {0, 2, 3}) job.wait(rank, kDeadline + 1);
  job.wait(1, kDeadline + 1);
  EXPECT_THAT(job.culprits(), ElementsAre(1));
  EXPECT_THAT(job.text(), HasSubstr("rank 1 (node, process 101) has not come: its last call was world.broadcast"));
  // As long as it moves, it may only be slow.
  job.wait(1, 10);
  EXPECT_THAT(job.culprits(), ElementsAre());
}

TEST(Diagnose, WhomAnUnknownRankHoldsUpIsNotBlamed) {
  Job job(4);
  for (int rank : {0, 1}) {
    job.begin(rank, "world", "all_reduce");
    job.wait(rank, kDeadline + 1);
  }
  const std::vector<RankState> known(job.states.begin(), job.states.begin() + 2);
  EXPECT_FALSE(diagnose(known, 4));
}

TEST(Diagnose, ARankIsOverdueInACallOrSilentUnlessNobodyWatches) {
  Job job(1);
  RankState& state = job.states[0];
  EXPECT_FALSE(overdue(state));
  job.wait(0, kDeadline + 1);
  EXPECT_FALSE(overdue(state)) << "computing is not waiting";
  job.begin(0, "world", "barrier");
  EXPECT_TRUE(overdue(state));
  state.set_deadline_ms(0);
  EXPECT_FALSE(overdue(state));
  state.set_silent_ms(kDeadline + 1);
  EXPECT_TRUE(overdue(state)) << "a thread that only beats needs no longer deadline";
  state.set_silent_ms(0);
  state.set_deadline_ms(kDeadline);
  state.clear_awaited();
  state.set_silent_ms(kDeadline + 1);
  EXPECT_TRUE(overdue(state));
}

}  // namespace
}  // namespace sluice
