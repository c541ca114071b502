#include <algorithm>

#include "runtime/checkpoint/diff.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/checkpoint/reshard.h"
#include "runtime/checkpoint/shard_index.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/checkpoint/verify.h"
#include "runtime/data/indexed_dataset.h"
#include "runtime/data/indexed_writer.h"
#include "runtime/files/xxh3.h"
#include "tests/fuzz/targets.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

constexpr int64_t kVocab = 300;

TempFolder& folder() {
  static TempFolder folder;
  return folder;
}

FuzzTarget index_target() {
  const std::string prefix = folder() / "index";
  IndexedWriter writer(prefix, kVocab);
  for (int length : {5, 1, 30}) writer.add(std::vector<int32_t>(static_cast<size_t>(length), 7));
  writer.finish();
  return {"IndexedDataset", folder().read("index.idx"), [prefix](const std::string& bytes) {
            folder().write("index.idx", bytes);
            const IndexedDataset set(prefix);
            std::vector<int32_t> ids(static_cast<size_t>(set.tokens()));
            set.read(0, set.tokens(), kVocab, ids.data());
            for (int64_t d = 0; d < set.documents(); ++d)
              set.document_of(std::max<int64_t>(0, set.document_start(d) - 1));
          }};
}

ParameterRecord make_record() {
  ParameterRecord r;
  r.name = "a.weight";
  r.global_shape = {3, 5};
  r.boxes = {{{0, 0}, {3, 5}}};
  r.count = 15;
  return r;
}

/// A checkpoint folder of one parameter.
std::string make_checkpoint(const std::string& name) {
  const std::string path = folder() / name;
  std::filesystem::create_directories(path);
  const std::vector<float> values(15, 1.5f);
  std::vector<Piece> pieces;
  for (const Piece::Kind kind : {Piece::MASTER, Piece::M, Piece::V}) {
    pieces.push_back(make_piece(make_record(), kind, DType::kF32, 0, 15));
  }
  ShardWriter shard(path, shard_file_name(0, 1), pieces);
  for (size_t i = 0; i < pieces.size(); ++i) shard.write(values.data(), values.size() * sizeof(float));
  write_manifest(path, shard.finish());
  return path;
}

/// Everything that reads a manifest; each refuses what it must by itself.
void read_checkpoint(const std::string& path, const std::string& good) {
  verify_checkpoint(path, [](const Manifest&) { return std::vector{make_record()}; });
  const CheckpointDifference difference = diff_checkpoints(path, good);
  INVARIANT(difference.tensors.size() >= 3, "the good one's tensors are compared");
  const std::string out = folder() / "resharded";
  std::filesystem::remove_all(out);
  reshard_checkpoint(path, out, 2, int64_t{1} << 20);
  INVARIANT(diff_checkpoints(path, out).equal(), "what was divided into other files is the same checkpoint");
}

void load_checkpoint(const std::string& path) {
  CheckpointReader reader(path);
  std::vector<float> values(15);
  reader.read(make_record(), Piece::MASTER, {values.data(), DType::kF32, Device::kCpu, {15}});
}

FuzzTarget safetensors_target() {
  const std::string path = make_checkpoint("shards") + "/shard-00000-of-00001.safetensors";
  return {"Safetensors", folder().read("shards/shard-00000-of-00001.safetensors"), [path](const std::string& bytes) {
            folder().write("shards/shard-00000-of-00001.safetensors", bytes);
            const SafetensorsFile file(path);
            size_t sum = 0;
            for (const SafetensorsEntry& entry : file.entries()) {
              std::string data(static_cast<size_t>(entry.end - entry.begin), '\0');
              file.read(entry, 0, entry.end - entry.begin, data.data());
              for (const char byte : data) sum += static_cast<unsigned char>(byte);
            }
            ENSURE(sum != 1, "the bytes were read");
          }};
}

/// Without the line of its own hash, which is put right: it would refuse nearly everything.
FuzzTarget manifest_target() {
  const std::string path = make_checkpoint("manifest"), good = make_checkpoint("good");
  const std::string text = folder().read("manifest/manifest.textproto");
  return {"Manifest", text.substr(0, text.rfind("manifest_xxh3")), [path, good](const std::string& bytes) {
            folder().write("manifest/manifest.textproto", bytes + "manifest_xxh3: \"" + hex16(xxh3(bytes)) + "\"\n");
            read_checkpoint(path, good);
            load_checkpoint(path);
          }};
}

FuzzTarget shard_index_target() {
  const std::string seed = R"({"metadata": {"total_size": 24}, "weight_map": {"a": "model-00001-of-00002.safetensors",
    "b": "model-00002-of-00002.safetensors"}})";
  return {"ShardIndex", seed, [](const std::string& bytes) {
            const ShardIndex index = read_shard_index(folder().write("model.safetensors.index.json", bytes));
            for (const std::string& file : index.files()) {
              INVARIANT(file.find('/') == std::string::npos, "a file outside of the folder");
            }
          }};
}

}  // namespace

std::vector<FuzzTarget> file_targets() {
  return {index_target(), safetensors_target(), manifest_target(), shard_index_target()};
}

bool survives(const FuzzTarget& target, const std::string& bytes) {
  try {
    target.parse(bytes);
  } catch (const Error& error) {
    return is_from_outside(error.fault());
  }
  return true;
}

}  // namespace sluice
