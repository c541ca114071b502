#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "parallel/watch/rank_state.pb.h"

namespace sluice {

/// What a rank shows the watchdogs of its node, in memory they share. A field has one writer: the rank's computing
/// thread, or for `beats` its watchdog.
struct WatchSlot {
  static constexpr size_t kGroups = 16, kKinds = 1024;
  static constexpr uint64_t kCalls = 4096;
  static constexpr size_t kNameBytes = 32, kTextBytes = 128, kHostBytes = 64;

  /// A group as it is registered.
  struct Group {
    char name[kNameBytes];
    int32_t first;  ///< rank of the world that is its rank 0
    std::atomic<uint64_t> sequence;
  };
  /// One of the last kCalls calls.
  struct Call {
    std::atomic<uint64_t> what;  ///< group, kind and place, as packed() has them
    std::atomic<uint64_t> sequence, hash;
    std::atomic<uint64_t> scheduled;  ///< place in the schedule of the step, 1 for its first; 0: in none
    std::atomic<int64_t> step;
  };

  int32_t rank, process;
  int64_t silence_deadline_ms;
  char host[kHostBytes];
  std::atomic<uint64_t> beats, progress;
  std::atomic<int64_t> deadline_ms, step;
  std::atomic<uint64_t> started;  ///< calls
  std::atomic<uint64_t> awaited;  ///< 1 + which of them the rank is in, or waits for the end of; 0: none
  std::atomic<bool> failed;       ///< a call threw
  std::atomic<int32_t>
      accused;  ///< 1 + the rank of the world that sent this one another count than it expected; 0: none
  std::atomic<uint32_t> groups_known, kinds_known;
  Group groups[kGroups];
  char kinds[kKinds][kTextBytes];
  Call calls[kCalls];

  static uint64_t packed(uint32_t group, uint32_t kind, uint32_t place) {
    return uint64_t{group} << 48 | uint64_t{kind} << 24 | place;
  }
};

/// The state of the slot's rank, ages left out. `places` names the places by their numbers; a number beyond is none.
///   most_calls  the last calls, at most so many
RankState read_slot(const WatchSlot& slot, const std::vector<std::string>& places, uint64_t most_calls);

}  // namespace sluice
