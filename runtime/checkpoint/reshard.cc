#include "runtime/checkpoint/reshard.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/core/error.h"
#include "parallel/combine.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/checkpoint/stored_tensors.h"
#include "runtime/files/output_folder.h"

namespace sluice {
namespace {

constexpr int kMostShards = 99'999;

/// Elements [begin, end) of a tensor.
struct Part {
  const StoredTensor* tensor;
  int64_t begin, end;
};

int64_t total_bytes(const std::vector<StoredTensor>& tensors, const std::string& folder) {
  int64_t total = 0;
  for (const StoredTensor& tensor : tensors) {
    const bool fits = !__builtin_add_overflow(total, tensor.record.count * tensor.element_bytes(), &total);
    ENSURE(fits, folder, "/manifest.textproto: its parameters have more than 2^63 bytes");
  }
  return total;
}

/// What lies in bytes [from, to) of all tensors one after the other; an element belongs where its first byte is.
std::vector<Part> parts_between(const std::vector<StoredTensor>& tensors, int64_t from, int64_t to) {
  std::vector<Part> parts;
  int64_t at = 0;
  for (const StoredTensor& tensor : tensors) {
    const int64_t element_bytes = tensor.element_bytes(), bytes = tensor.record.count * element_bytes;
    const auto first_from = [&](int64_t byte) {
      return (std::clamp<int64_t>(byte - at, 0, bytes) + element_bytes - 1) / element_bytes;
    };
    const Part part{&tensor, first_from(from), first_from(to)};
    if (part.begin < part.end) parts.push_back(part);
    at += bytes;
  }
  return parts;
}

/// Writes a shard and adds it and its pieces to the manifest.
void write_shard_of(const std::vector<Part>& parts, const std::string& out, const std::string& file,
                    CheckpointReader& reader, std::vector<char>& buffer, Manifest& manifest) {
  std::vector<Piece> pieces;
  for (const Part& part : parts) {
    pieces.push_back(make_piece(part.tensor->record, part.tensor->kind, part.tensor->dtype(), part.begin, part.end));
  }
  ShardWriter writer(out, file, pieces);
  for (const Part& part : parts) {
    const int64_t most = static_cast<int64_t>(buffer.size()) / part.tensor->element_bytes();
    for (int64_t begin = part.begin; begin < part.end; begin += most) {
      const int64_t count = std::min(most, part.end - begin);
      const Tensor elements{buffer.data(), part.tensor->dtype(), Device::kCpu, {count}};
      reader.read(part.tensor->record, part.tensor->kind, begin, begin + count, elements);
      writer.write(elements.data, static_cast<size_t>(elements.bytes()));
    }
  }
  manifest.MergeFrom(writer.finish());
}

}  // namespace

Manifest reshard_checkpoint(const std::string& folder, const std::string& out, int shards, int64_t buffer_bytes) {
  INVARIANT(buffer_bytes > 0 && buffer_bytes % kChunkBytes == 0, "a buffer of ", buffer_bytes, " bytes");
  ENSURE(shards >= 1 && shards <= kMostShards, "--shards: must be between 1 and ", kMostShards, ", got ", shards);
  CheckpointReader reader(folder);
  const std::vector<StoredTensor> tensors = stored_tensors(reader.manifest(), folder);
  const int64_t total = total_bytes(tensors, folder);
  check_outside_checkpoints(out);
  OutputFolder filled(out);
  Manifest manifest = reader.manifest();
  manifest.clear_shards();
  manifest.clear_pieces();
  if (manifest.has_tokenizer_xxh3()) filled.write("tokenizer.json", read_tokenizer_text(manifest, folder));
  std::vector<char> buffer(static_cast<size_t>(buffer_bytes));
  for (int i = 0; i < shards; ++i) {
    const std::vector<Part> parts =
        parts_between(tensors, part_begin(total, i, shards), part_begin(total, i + 1, shards));
    write_shard_of(parts, out, shard_file_name(i, shards), reader, buffer, manifest);
  }
  write_manifest(out, manifest);
  filled.keep();
  return manifest;
}

}  // namespace sluice
