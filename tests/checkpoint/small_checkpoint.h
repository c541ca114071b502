#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "parallel/combine.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/files/xxh3.h"
#include "tests/checkpoint/write_shard.h"
#include "tests/temp_folder.h"

namespace sluice {

/// Checkpoints of a few parameters, as ranks of any layout would write them.
class SmallCheckpoint {
 public:
  using Shapes = std::vector<std::pair<std::string, std::vector<int64_t>>>;

  explicit SmallCheckpoint(const Shapes& shapes = {
                               {"a.weight", {3, 5}}, {"b.weight", {2, 2, 2}}, {"norm.weight", {7}}}) {
    for (const auto& [name, shape] : shapes) {
      ParameterRecord r;
      r.name = name;
      r.global_shape = shape;
      r.boxes = {{std::vector<int64_t>(shape.size(), 0), shape}};
      r.count = r.global_count();
      for (auto& kind : values) {
        kind.emplace_back(static_cast<size_t>(r.count));
        for (float& value : kind.back()) value = next_ += 0.5f;
      }
      records.push_back(std::move(r));
    }
  }

  /// Writes it by tp * dp ranks: `tp` of them divide the last axis, and `dp` what each of those holds. Returns the
  /// manifest, which write_manifest has written.
  Manifest write(const std::string& folder, int tp, int dp) const {
    std::filesystem::create_directories(folder);
    Manifest manifest;
    manifest.set_step(7);
    manifest.set_world_size(tp * dp);
    manifest.set_tokenizer_xxh3(hex16(xxh3(kTokenizer)));
    std::ofstream(folder + "/tokenizer.json") << kTokenizer;
    for (int rank = 0; rank < tp * dp; ++rank) {
      Held held(*this, rank / dp, tp);
      manifest.MergeFrom(write_shard(folder, rank, tp * dp, held.owned(rank % dp, dp)));
    }
    write_manifest(folder, manifest);
    return manifest;
  }

  static constexpr const char* kTokenizer = R"({"model": {"vocab": {"a": 0}}})";
  std::vector<ParameterRecord> records;                   ///< whole
  std::array<std::vector<std::vector<float>>, 3> values;  ///< of master, m, v and each record: its elements

 private:
  /// What a tensor-parallel rank holds: a part of the last axis.
  struct Held {
    Held(const SmallCheckpoint& from, int part, int parts) : records(from.records), values(from.values) {
      for (size_t i = 0; i < records.size(); ++i) {
        ParameterRecord& r = records[i];
        r.boxes.front().begin.back() = part_begin(r.global_shape.back(), part, parts);
        r.boxes.front().end.back() = part_begin(r.global_shape.back(), part + 1, parts);
        r.count = r.boxes.front().count();
        for (size_t kind = 0; kind < 3; ++kind) {
          values[kind][i].clear();
          for_each_run(r.global_shape, r.boxes, [&](int64_t place, int64_t count) {
            const auto begin = from.values[kind][i].begin() + place;
            values[kind][i].insert(values[kind][i].end(), begin, begin + count);
          });
        }
      }
    }
    std::vector<OwnedElements> owned(int part, int parts) {
      std::vector<OwnedElements> owned;
      for (size_t i = 0; i < records.size(); ++i) {
        const int64_t begin = part_begin(records[i].count, part, parts);
        const int64_t end = part_begin(records[i].count, part + 1, parts);
        const auto of = [&](size_t kind) {
          return Tensor{values[kind][i].data() + begin, DType::kF32, Device::kCpu, {end - begin}};
        };
        if (begin < end) owned.push_back({&records[i], begin, end, of(0), of(1), of(2)});
      }
      return owned;
    }
    std::vector<ParameterRecord> records;
    std::array<std::vector<std::vector<float>>, 3> values;
  };

  float next_ = 0;
};

}  // namespace sluice
