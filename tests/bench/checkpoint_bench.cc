// Speed of writing a shard, checksums and fsync included.
//   checkpoint_bench FOLDER [MEGABYTES]     prints MB/s and the CPU time that it took
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/checkpoint/shard_snapshot.h"
#include "runtime/checkpoint/shard_writer.h"

int main(int argc, char** argv) {
  using namespace sluice;
  if (argc < 2) {
    std::fprintf(stderr, "checkpoint_bench FOLDER [MEGABYTES]\n");
    return 1;
  }
  const int64_t megabytes = argc > 2 ? std::atoll(argv[2]) : 1400, count = megabytes * 1'000'000 / 12;
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 2654435761u % 1000003);
  const Tensor tensor{values.data(), DType::kF32, Device::kCpu, {count}};
  ParameterRecord record;
  record.name = "weight";
  record.global_shape = {count};
  record.boxes = {{{0}, {count}}};
  record.count = count;
  Arena staging("staging", MemorySource::kHugePages, int64_t{16} << 30);
  ShardSnapshot snapshot({{&record, 0, count, tensor, tensor, tensor}}, staging);
  snapshot.borrow();
  const auto start = std::chrono::steady_clock::now();
  const ShardSnapshot::Written written = snapshot.write(argv[1], shard_file_name(0, 1));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%.0f MB/s, %.3f s of a core\n", static_cast<double>(written.manifest.shards(0).bytes()) * 1e-6 / seconds,
              written.cpu_s);
}
