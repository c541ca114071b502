#include "runtime/checkpoint/verify.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "kernels/core/error.h"
#include "runtime/checkpoint/coverage.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/files/input_file.h"
#include "runtime/files/xxh3.h"

namespace sluice {
namespace {

using Problems = std::vector<std::string>;

/// Runs `check`; a file that it refuses is a problem.
template <class Check>
void collect(Problems& problems, const Check& check) {
  try {
    check();
  } catch (const Error& error) {
    if (!is_from_outside(error.fault())) throw;
    problems.push_back(error.what());
  }
}

/// Checksums of a tensor's bytes and of each chunk of them.
struct TensorSums {
  std::string all;
  std::vector<std::string> chunks;
};

/// Bytes [begin, begin + bytes) of a file, a tensor of a shard, all of which goes into the file's checksum too.
TensorSums read_tensor(const InputFile& file, int64_t begin, int64_t bytes, Xxh3& whole) {
  TensorSums sums;
  Xxh3 all;
  std::string chunk;
  for (int64_t at = 0; at < bytes; at += kChunkBytes) {
    chunk.resize(static_cast<size_t>(std::min(kChunkBytes, bytes - at)));
    file.read(begin + at, static_cast<int64_t>(chunk.size()), chunk.data());
    whole.add(chunk.data(), chunk.size());
    all.add(chunk.data(), chunk.size());
    sums.chunks.push_back(hex16(xxh3(chunk)));
  }
  sums.all = hex16(all.digest());
  return sums;
}

void check_piece_sums(const Piece& piece, const SafetensorsEntry& entry, const TensorSums& sums,
                      const std::string& where, Problems& problems) {
  const std::string type = piece.dtype() == Piece::F64 ? "F64" : "F32";
  if (entry.dtype != type) problems.push_back(concat(where, "is ", entry.dtype, ", the manifest says ", type));
  if (entry.end - entry.begin != piece.bytes()) {
    problems.push_back(concat(where, "has ", entry.end - entry.begin, " bytes, the manifest says ", piece.bytes()));
    return;
  }
  if (sums.all != piece.xxh3()) problems.push_back(where + "does not match its xxh3; the file is damaged");
  for (int i = 0; i < piece.chunk_xxh3_size(); ++i) {
    if (sums.chunks[static_cast<size_t>(i)] == piece.chunk_xxh3(i)) continue;
    problems.push_back(concat(where, "does not match chunk_xxh3[", i, "]; the file is damaged"));
  }
}

std::vector<SafetensorsEntry> entries_in_order(const SafetensorsFile& file) {
  std::vector<SafetensorsEntry> entries = file.entries();
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  return entries;
}

/// Pieces of a shard by the tensor that holds them.
using PiecesOfShard = std::map<std::string, std::vector<const Piece*>>;

/// Reads a shard once, against its own checksum and those of its pieces.
void check_shard_bytes(const std::string& path, const ShardFile& shard, PiecesOfShard pieces, Problems& problems) {
  const SafetensorsFile opened(path);
  if (hex16(opened.header_xxh3()) != shard.header_xxh3()) {
    problems.push_back(path + ": its header does not match its checksum; the file is damaged");
  }
  const std::vector<SafetensorsEntry> entries = entries_in_order(opened);
  const InputFile file(path);
  Xxh3 whole;
  const int64_t header_bytes = shard.bytes() - (entries.empty() ? 0 : entries.back().end);
  read_tensor(file, 0, header_bytes, whole);
  for (const SafetensorsEntry& entry : entries) {
    const TensorSums sums = read_tensor(file, header_bytes + entry.begin, entry.end - entry.begin, whole);
    const auto held = pieces.extract(entry.name);
    if (held.empty()) continue;
    const std::string where = path + ": tensor \"" + entry.name + "\" ";
    if (held.mapped().size() > 1) problems.push_back(where + "is named by several pieces");
    for (const Piece* piece : held.mapped()) check_piece_sums(*piece, entry, sums, where, problems);
  }
  if (hex16(whole.digest()) != shard.xxh3()) {
    problems.push_back(path + ": does not match its checksum; the file is damaged");
  }
  for (const auto& [tensor, missing] : pieces) problems.push_back(path + ": there is no tensor \"" + tensor + "\"");
}

void check_shards(const std::string& folder, const Manifest& manifest, CheckpointVerification& result) {
  std::map<std::string, PiecesOfShard> pieces;
  for (const Piece& piece : manifest.pieces()) pieces[piece.file()][piece.tensor()].push_back(&piece);
  std::set<std::string> seen;
  for (const ShardFile& shard : manifest.shards()) {
    const std::string path = folder + "/" + shard.file();
    collect(result.problems, [&] {
      ENSURE(seen.insert(shard.file()).second, folder, "/manifest.textproto: shard ", shard.file(), " is named twice");
      check_shard(shard, folder);
      check_shard_bytes(path, shard, std::move(pieces[shard.file()]), result.problems);
      ++result.files;
      result.bytes += shard.bytes();
    });
  }
}

void check_tokenizer(const std::string& folder, const Manifest& manifest, CheckpointVerification& result) {
  if (!manifest.has_tokenizer_xxh3()) return;
  result.bytes += static_cast<int64_t>(read_tokenizer_text(manifest, folder).size());
  ++result.files;
}

void check_model(const std::string& folder, const Manifest& manifest, const ModelOfManifest& model_of,
                 Problems& problems) {
  const std::string path = folder + "/manifest.textproto";
  for (const std::string& problem : coverage_problems(manifest, model_of(manifest))) {
    problems.push_back(path + ": " + problem);
  }
}

}  // namespace

CheckpointVerification verify_checkpoint(const std::string& folder, const ModelOfManifest& model_of) {
  check_is_checkpoint(folder);
  CheckpointVerification result;
  Manifest manifest;
  collect(result.problems, [&] {
    manifest = read_manifest_alone(folder);
    result.files = 1;
    result.bytes = InputFile(folder + "/manifest.textproto").size();
    result.pieces = manifest.pieces_size();
  });
  if (!result.problems.empty()) return result;
  check_shards(folder, manifest, result);
  collect(result.problems, [&] { check_tokenizer(folder, manifest, result); });
  collect(result.problems, [&] { check_model(folder, manifest, model_of, result.problems); });
  return result;
}

}  // namespace sluice
