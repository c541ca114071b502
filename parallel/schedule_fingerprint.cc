#include "parallel/schedule_fingerprint.h"

#include <algorithm>
#include <cstring>

#include "parallel/agree.h"

namespace sluice {
namespace {

const char* file_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/// FNV-1a over the bytes of a text.
uint64_t mixed(uint64_t hash, const char* text) {
  for (; *text; ++text) hash = (hash ^ static_cast<uint8_t>(*text)) * 0x100000001b3;
  return hash;
}
uint64_t mixed(uint64_t hash, uint64_t number) {
  for (int i = 0; i < 8; ++i) hash = (hash ^ (number >> (8 * i) & 0xff)) * 0x100000001b3;
  return hash;
}

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
  const bool by_data = std::strcmp(call.operation, "all_to_all") == 0;
  const Tensor& x = call.in ? call.in : call.out;
  calls_.push_back(
      {&call.group, call.operation, by_data ? -1 : call.in.count(), x.dtype, call.site.file_name(), call.site.line()});
}

std::string ScheduleFingerprint::text(const Call& call) {
  const std::string count = call.count < 0 ? "" : concat(" of ", call.count, " ", dtype_name(call.dtype));
  return concat(call.group->name(), ".", call.operation, count, " at ", file_name(call.file), ":", call.line);
}

int64_t ScheduleFingerprint::hash() const {
  uint64_t hash = 0xcbf29ce484222325;
  for (const Call& call : calls_) {
    hash = mixed(mixed(mixed(hash, call.group->name().c_str()), call.operation), file_name(call.file));
    hash = mixed(mixed(mixed(hash, static_cast<uint64_t>(call.count)), static_cast<uint64_t>(call.dtype)), call.line);
  }
  return static_cast<int64_t>(hash);
}

void ScheduleFingerprint::compare(ProcessGroup& world) const {
  const std::vector<int64_t> hashes = gather(world, hash());
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
    for (const Call& call : calls_) lines += text(call) + "\n";
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
