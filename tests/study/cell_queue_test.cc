#include "launch/study/cell_queue.h"

#include <csignal>
#include <filesystem>
#include <set>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>

#include "kernels/core/error.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using Outcome = CellState::Outcome;

class CellQueueTest : public testing::Test {
 protected:
  CellQueue queue(int64_t attempts = 2) { return {book_, {"a", "b", "c"}, attempts}; }
  void add_checkpoint(const std::string& cell, const std::string& step) {
    const std::string folder = "study/cells/" + cell + "/checkpoints/step_" + step;
    std::filesystem::create_directories(folder_ / folder);
    folder_.write(folder + "/manifest.textproto", "");
  }

  const TempFolder folder_;
  CellBook book_{folder_ / "study"};
};

TEST_F(CellQueueTest, EveryCellIsClaimedOnce) {
  CellQueue first = queue(), second = queue();
  EXPECT_EQ(first.next(), 0);
  EXPECT_EQ(second.next(), 1);
  first.end(Outcome::kDone, "", 1.5);
  EXPECT_EQ(first.next(), 2);
  second.end(Outcome::kDiverged, "why", 1);
  EXPECT_EQ(second.next(), CellQueue::kNoneFree);
  first.end(Outcome::kDone, "", 1);
  EXPECT_EQ(first.next(), CellQueue::kAllEnded);
  EXPECT_EQ(second.next(), CellQueue::kAllEnded);
  EXPECT_EQ(second.count_ended(), 3);
  EXPECT_EQ(book_.state("a").outcome, Outcome::kDone);
  EXPECT_EQ(book_.state("a").seconds, 1.5);
  EXPECT_EQ(book_.state("b").outcome, Outcome::kDiverged);
  EXPECT_EQ(book_.state("b").reason, "why");
  for (const char* cell : {"a", "b", "c"}) EXPECT_EQ(book_.state(cell).starts, 1);
}

TEST_F(CellQueueTest, TheCellOfAProcessThatDiedIsFreeAgain) {
  const pid_t child = ::fork();
  if (child == 0) {
    CellQueue own = queue();
    if (own.next() == 0) ::raise(SIGKILL);
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  CellQueue other = queue();
  EXPECT_EQ(other.next(), 1) << "those first that nobody has tried";
  other.end(Outcome::kDone, "", 0);
  EXPECT_EQ(other.next(), 2);
  other.end(Outcome::kDone, "", 0);
  EXPECT_EQ(other.next(), 0);
  other.end(Outcome::kDone, "", 0);
  EXPECT_EQ(book_.state("a").starts, 2);
}

TEST_F(CellQueueTest, WhatFailsAgainAndAgainIsGivenUp) {
  CellQueue only = queue();
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(only.next(), i == 0 ? 0 : 1) << "others come before the second try";
    only.end(Outcome::kNone, "disk full", 0);
  }
  ASSERT_EQ(only.next(), 2);
  only.end(Outcome::kDone, "", 0);
  ASSERT_EQ(only.next(), 0);
  only.end(Outcome::kNone, "disk full", 0);
  ASSERT_EQ(only.next(), 1);
  only.end(Outcome::kDone, "", 0);
  EXPECT_EQ(only.next(), CellQueue::kAllEnded);
  EXPECT_EQ(book_.state("a").outcome, Outcome::kFailed);
  EXPECT_EQ(book_.state("a").starts, 2);
}

TEST_F(CellQueueTest, AStartThatLeavesANewerCheckpointIsNotInVain) {
  CellQueue only(book_, {"a"}, 2);
  for (int i = 1; i <= 6; ++i) {
    ASSERT_EQ(only.next(), 0);
    add_checkpoint("a", "0000000" + std::to_string(i));
    only.end(Outcome::kNone, "", 0);
  }
  EXPECT_EQ(book_.state("a").starts, 6);
}

TEST_F(CellQueueTest, ACellThatIsGivenBackHasNotFailed) {
  for (int i = 0; i < 6; ++i) {
    CellQueue only(book_, {"a"}, 2);
    ASSERT_EQ(only.next(), 0);
    only.give_back(1);
  }
  EXPECT_EQ(book_.state("a").starts, 6);
  EXPECT_EQ(book_.state("a").seconds, 6);
}

TEST_F(CellQueueTest, ADamagedStateIsTold) {
  std::filesystem::create_directories(folder_ / "study/cells/a");
  for (const char* text : {"{", "{}", R"({"outcome":"odd"})", "[1]"}) {
    folder_.write("study/cells/a/cell.json", text);
    EXPECT_THROW(book_.state("a"), Error) << text;
  }
}

TEST_F(CellQueueTest, TheLastProcessKnowsThatItIs) {
  CellBook second(folder_ / "study");
  EXPECT_FALSE(book_.leave());
  EXPECT_TRUE(second.leave());
}

}  // namespace
}  // namespace sluice
