#include "runtime/checkpoint/manifest.h"

#include <filesystem>
#include <limits>

#include <google/protobuf/text_format.h>

#include "kernels/core/error.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/output_file.h"
#include "runtime/files/text_message.h"
#include "runtime/files/xxh3.h"

namespace sluice {
namespace {

constexpr int64_t kMostUpdates = std::numeric_limits<int32_t>::max();
constexpr char kHashField[] = "manifest_xxh3: \"";

std::string manifest_path(const std::string& folder) { return folder + "/manifest.textproto"; }

/// The text before the line with the manifest's own hash, which must be the last one and right.
std::string_view verified_text(std::string_view text, const std::string& path) {
  const size_t line = text.rfind(kHashField);
  ENSURE(line != std::string_view::npos && (line == 0 || text[line - 1] == '\n'), path,
         ": the line manifest_xxh3 is missing at the end; the file is damaged");
  const std::string expected = std::string(kHashField) + hex16(xxh3(text.substr(0, line))) + "\"\n";
  ENSURE(text.substr(line) == expected, path, ": manifest_xxh3 does not match; the file is damaged");
  return text.substr(0, line);
}

/// Product of the dimensions, or -1.
template <class Dims>
int64_t element_count(const Dims& dims) {
  int64_t count = 1;
  for (int64_t dim : dims) {
    if (dim < 0 || __builtin_mul_overflow(count, dim, &count)) return -1;
  }
  return count;
}

bool plain_file_name(const std::string& name) {
  return !name.empty() && name.find('/') == std::string::npos && name != "." && name != "..";
}

void check_boxes(const Piece& piece, const std::string& where) {
  int64_t held = 0;
  for (const PieceBox& box : piece.boxes()) {
    ENSURE(box.begin_size() == piece.global_shape_size() && box.end_size() == piece.global_shape_size(), where,
           ": a box has ", box.begin_size(), " dimensions, global_shape ", piece.global_shape_size());
    int64_t count = 1;
    for (int i = 0; i < box.begin_size(); ++i) {
      ENSURE(box.begin(i) >= 0 && box.begin(i) <= box.end(i) && box.end(i) <= piece.global_shape(i), where, ": box [",
             box.begin(i), ", ", box.end(i), ") is not within 0..", piece.global_shape(i));
      count *= box.end(i) - box.begin(i);
    }
    held += count;
    ENSURE(held <= element_count(piece.global_shape()), where, ": its boxes hold more than the whole parameter");
  }
  ENSURE(piece.flat_begin() >= 0 && piece.flat_count() >= 0 && piece.flat_begin() <= held &&
             piece.flat_count() <= held - piece.flat_begin(),
         where, ": flat range [", piece.flat_begin(), ", +", piece.flat_count(), ") is not within the ", held,
         " elements of its boxes");
}

void check_piece(const Piece& piece, const std::string& path) {
  const std::string where = path + ": piece of " + piece.name();
  const int64_t elements = element_count(piece.global_shape());
  ENSURE(elements >= 0 && elements <= std::numeric_limits<int64_t>::max() / 8, where, ": global_shape is not a shape");
  check_boxes(piece, where);
  const int64_t element_bytes = piece.dtype() == Piece::F64 ? 8 : 4;
  ENSURE(piece.bytes() == piece.flat_count() * element_bytes, where, ": bytes=", piece.bytes(), ", expected ",
         piece.flat_count() * element_bytes);
  const int64_t chunks = piece.bytes() / kChunkBytes + (piece.bytes() % kChunkBytes ? 1 : 0);
  ENSURE(piece.chunk_xxh3().empty() || piece.chunk_xxh3_size() == chunks, where, ": has ", piece.chunk_xxh3_size(),
         " chunk_xxh3, expected ", chunks);
  ENSURE(plain_file_name(piece.file()), where, ": file \"", piece.file(), "\" is not a file name");
}

void check_shard(const ShardFile& shard, const std::string& folder) {
  ENSURE(plain_file_name(shard.file()), manifest_path(folder), ": shard \"", shard.file(), "\" is not a file name");
  std::error_code error;
  const std::string path = folder + "/" + shard.file();
  const auto bytes = std::filesystem::file_size(path, error);
  ENSURE(!error, path, ": is missing: ", error.message());
  ENSURE(static_cast<int64_t>(bytes) == shard.bytes(), path, ": has ", bytes, " bytes, the manifest says ",
         shard.bytes());
}

}  // namespace

int64_t moment_updates(const Manifest& manifest) {
  return manifest.has_moment_updates() ? manifest.moment_updates() : manifest.step();
}

void write_manifest(const std::string& folder, Manifest manifest) {
  manifest.set_format_version(kManifestVersion);
  manifest.clear_manifest_xxh3();
  std::string text;
  INVARIANT(google::protobuf::TextFormat::PrintToString(manifest, &text), "the manifest cannot be printed");
  OutputFile file(manifest_path(folder));
  file.write(text);
  file.write(kHashField + hex16(xxh3(text)) + "\"\n");
  file.commit();
}

Manifest read_manifest(const std::string& folder) {
  const std::string path = manifest_path(folder);
  ENSURE(std::filesystem::exists(path), folder, ": not a checkpoint, there is no manifest.textproto");
  const MappedFile file(path);
  Manifest manifest;
  const std::string problems = merge_text(std::string(verified_text(file.bytes(), path)), path, manifest);
  ENSURE(problems.empty(), problems);
  ENSURE(manifest.format_version() == kManifestVersion, path, ": format_version=", manifest.format_version(),
         ", this program reads ", kManifestVersion);
  const int64_t updates = moment_updates(manifest);
  ENSURE(0 <= manifest.step() && manifest.step() <= updates && updates <= kMostUpdates, path,
         ": step=", manifest.step(), " and moment_updates=", updates,
         ", expected 0 <= step <= moment_updates <= ", kMostUpdates);
  for (const ShardFile& shard : manifest.shards()) check_shard(shard, folder);
  for (const Piece& piece : manifest.pieces()) check_piece(piece, path);
  return manifest;
}

}  // namespace sluice
