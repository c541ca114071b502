#include "parallel/schedule_fingerprint.h"

#include <algorithm>

#include "parallel/agree.h"

namespace sluice {
namespace {

std::vector<int64_t> gather(ProcessGroup& world, int64_t own) {
  std::vector<int64_t> all(static_cast<size_t>(world.size()));
  world.all_gather({&own, DType::kI64, Device::kCpu, {1}}, {all.data(), DType::kI64, Device::kCpu, {world.size()}})
      .wait();
  return all;
}

/// The value that most ranks have, the first of those that as many have.
int64_t most_common(const std::vector<int64_t>& values) {
  int64_t best = values[0];
  for (int64_t value : values) {
    if (std::count(values.begin(), values.end(), value) > std::count(values.begin(), values.end(), best)) best = value;
  }
  return best;
}

std::string join(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += (i ? ", " : "") + std::to_string(ranks[i]);
  return text;
}

}  // namespace

void ScheduleFingerprint::before(const GroupCall& call) {
  calls_.push_back({book_.number(call), place_});
  hash_ = rolled(hash_, book_.kind(calls_.back().kind).hash);
}

std::string ScheduleFingerprint::text(const Made& call) const {
  const std::string& kind = book_.kind(call.kind).text;
  return call.place < places_.size() ? kind + ", " + places_[call.place] : kind;
}

void ScheduleFingerprint::compare(ProcessGroup& world) const {
  const std::vector<int64_t> hashes = gather(world, static_cast<int64_t>(hash_));
  const int64_t common = most_common(hashes);
  std::vector<int> others;
  for (int rank = 0; rank < world.size(); ++rank) {
    if (hashes[static_cast<size_t>(rank)] != common) others.push_back(rank);
  }
  if (others.empty()) return;

  // The first call that differs between the first of the others and the first of the rest.
  const int usual = static_cast<int>(std::find(hashes.begin(), hashes.end(), common) - hashes.begin());
  std::vector<std::string> of_usual, of_other;
  for (const auto& [rank, calls] : {std::pair{usual, &of_usual}, {others.front(), &of_other}}) {
    std::string lines;
    for (const Made& call : calls_) lines += text(call) + "\n";
    lines = broadcast_string(world, lines, rank);
    for (size_t begin = 0, end = 0; begin < lines.size(); begin = end + 1) {
      end = lines.find('\n', begin);
      calls->push_back(lines.substr(begin, end - begin));
    }
  }
  size_t first = 0;
  while (first < std::min(of_usual.size(), of_other.size()) && of_usual[first] == of_other[first]) ++first;
  const auto call = [&](const std::vector<std::string>& calls) {
    return first < calls.size() ? calls[first] : "nothing";
  };
  const std::string message = concat(join(others), " made other calls than the rest: call ", first + 1,
                                     " of the step is ", call(of_other), ", elsewhere ", call(of_usual));
  throw AgreedError(world.rank() == 0 ? message : "", Fault::kHang);
}

}  // namespace sluice
