#include "runtime/checkpoint/manifest.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include <google/protobuf/text_format.h>

#include "kernels/core/error.h"
#include "runtime/files/file_name.h"
#include "runtime/files/input_file.h"
#include "runtime/files/output_file.h"
#include "runtime/files/text_message.h"
#include "runtime/files/utf8.h"
#include "runtime/files/xxh3.h"

namespace sluice {
namespace {

constexpr int64_t kMostUpdates = std::numeric_limits<int32_t>::max();
constexpr char kHashField[] = "manifest_xxh3: \"";

std::string manifest_path(const std::string& folder) { return folder + "/manifest.textproto"; }

/// The text before the line with the manifest's own hash, which must be the last one and right.
std::string_view verified_text(std::string_view text, const std::string& path) {
  const size_t line = text.rfind(kHashField);
  ENSURE_INTACT(line != std::string_view::npos && (line == 0 || text[line - 1] == '\n'), path,
                ": the line manifest_xxh3 is missing at the end; the file is damaged");
  const std::string expected = std::string(kHashField) + hex16(xxh3(text.substr(0, line))) + "\"\n";
  ENSURE_INTACT(text.substr(line) == expected, path, ": manifest_xxh3 does not match; the file is damaged");
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

void check_boxes(const Piece& piece, const std::string& where) {
  int64_t held = 0;
  for (const PieceBox& box : piece.boxes()) {
    ENSURE_INTACT(box.begin_size() == piece.global_shape_size() && box.end_size() == piece.global_shape_size(), where,
                  ": a box has ", box.begin_size(), " dimensions, global_shape ", piece.global_shape_size());
    int64_t count = 1;
    for (int i = 0; i < box.begin_size(); ++i) {
      ENSURE_INTACT(box.begin(i) >= 0 && box.begin(i) <= box.end(i) && box.end(i) <= piece.global_shape(i), where,
                    ": box [", box.begin(i), ", ", box.end(i), ") is not within 0..", piece.global_shape(i));
      count *= box.end(i) - box.begin(i);
    }
    held += count;
    ENSURE_INTACT(held <= element_count(piece.global_shape()), where, ": its boxes hold more than the whole parameter");
  }
  ENSURE_INTACT(piece.flat_begin() >= 0 && piece.flat_count() >= 0 && piece.flat_begin() <= held &&
                    piece.flat_count() <= held - piece.flat_begin(),
                where, ": flat range [", piece.flat_begin(), ", +", piece.flat_count(), ") is not within the ", held,
                " elements of its boxes");
}

void check_piece(const Piece& piece, const std::string& path) {
  for (const std::string* name : {&piece.name(), &piece.tensor()}) {
    ENSURE_INTACT(valid_utf8_prefix(*name) == name->size(), path, ": a name of a piece is not UTF-8");
  }
  const std::string where = path + ": piece of " + piece.name();
  const int64_t elements = element_count(piece.global_shape());
  ENSURE_INTACT(piece.global_shape_size() > 0 && elements >= 0 && elements <= std::numeric_limits<int64_t>::max() / 8,
                where, ": global_shape is not a shape");
  check_boxes(piece, where);
  const int64_t element_bytes = piece.dtype() == Piece::F64 ? 8 : 4;
  ENSURE_INTACT(piece.bytes() == piece.flat_count() * element_bytes, where, ": bytes=", piece.bytes(), ", expected ",
                piece.flat_count() * element_bytes);
  const int64_t chunks = piece.bytes() > kChunkBytes ? (piece.bytes() - 1) / kChunkBytes + 1 : 0;
  ENSURE_INTACT(piece.chunk_xxh3_size() == chunks, where, ": has ", piece.chunk_xxh3_size(), " chunk_xxh3, expected ",
                chunks);
  ENSURE_INTACT(is_plain_file_name(piece.file()), where, ": file \"", piece.file(), "\" is not a file name");
}

/// Whatever a manifest claims, it speaks of no more than its shards can hold.
void check_sizes(const Manifest& manifest, const std::string& path) {
  std::map<std::string, int64_t> left;
  int64_t total = 0;
  for (const ShardFile& shard : manifest.shards()) {
    ENSURE_INTACT(shard.bytes() >= 0 && !__builtin_add_overflow(total, shard.bytes(), &total), path, ": shard ",
                  shard.file(), " of ", shard.bytes(), " bytes");
    left[shard.file()] = shard.bytes();
  }
  for (const Piece& piece : manifest.pieces()) {
    const auto file = left.find(piece.file());
    ENSURE_INTACT(file != left.end(), path, ": piece of ", piece.name(), ": ", piece.file(),
                  " is not among the shards");
    ENSURE_INTACT(piece.bytes() <= file->second, path, ": ", piece.file(), " cannot hold its pieces");
    file->second -= piece.bytes();
    const int64_t element_bytes = piece.dtype() == Piece::F64 ? 8 : 4;
    ENSURE_INTACT(element_count(piece.global_shape()) <= total / element_bytes, path, ": ", piece.name(),
                  " is larger than all shards");
  }
}

void check_stability(const StabilityState& stability, const std::string& path) {
  ENSURE_INTACT(stability.skips_in_a_row() >= 0 && stability.skips_in_a_row() <= kMostUpdates, path,
                ": stability.skips_in_a_row=", stability.skips_in_a_row(), " is no number of updates");
  for (const SignalState& signal : stability.signals()) {
    for (const auto* values : {&signal.level(), &signal.trend(), &signal.noise()}) {
      const bool finite = std::ranges::all_of(*values, [](double value) { return std::isfinite(value); });
      ENSURE_INTACT(finite, path, ": stability: signal ", signal.name(), " has a value that is not finite");
    }
  }
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

void check_shard(const ShardFile& shard, const std::string& folder) {
  ENSURE_INTACT(is_plain_file_name(shard.file()), manifest_path(folder), ": shard \"", shard.file(),
                "\" is not a file name");
  std::error_code error;
  const std::string path = folder + "/" + shard.file();
  const auto bytes = std::filesystem::file_size(path, error);
  ENSURE_INTACT(error != std::errc::no_such_file_or_directory, path, ": is missing: ", error.message());
  ENSURE_INTACT(error != std::errc::io_error && error != std::errc::is_a_directory, path,
                ": cannot be read: ", error.message());
  ENSURE(!error, path, ": cannot be looked at: ", error.message());
  ENSURE_INTACT(static_cast<int64_t>(bytes) == shard.bytes(), path, ": has ", bytes, " bytes, the manifest says ",
                shard.bytes());
}

void check_is_checkpoint(const std::string& folder) {
  std::error_code error;
  if (std::filesystem::exists(manifest_path(folder), error) || error) return;
  ENSURE(std::filesystem::exists(folder, error) || error, folder, ": there is no such folder");
  const bool is_run = std::filesystem::exists(folder + "/checkpoints", error);
  ENSURE(false, folder, ": not a checkpoint, there is no manifest.textproto",
         is_run ? "; it is a run, whose checkpoints `sluice checkpoint list` tells" : "");
}

void check_outside_checkpoints(const std::string& path) {
  const std::filesystem::path whole = std::filesystem::absolute(path).lexically_normal();
  for (std::filesystem::path folder = whole.parent_path(); folder != folder.parent_path();
       folder = folder.parent_path()) {
    std::error_code error;
    ENSURE(!std::filesystem::exists(folder / "manifest.textproto", error), path, ": lies inside of the checkpoint ",
           folder.string(), "; choose a folder outside of it");
  }
}

Manifest read_manifest(const std::string& folder) {
  Manifest manifest = read_manifest_alone(folder);
  for (const ShardFile& shard : manifest.shards()) check_shard(shard, folder);
  return manifest;
}

Manifest read_manifest_alone(const std::string& folder) {
  const std::string path = manifest_path(folder);
  check_is_checkpoint(folder);
  const std::string text = read_text(path);
  Manifest manifest;
  const std::string problems = merge_text(std::string(verified_text(text, path)), path, manifest);
  // Before the problems: another version may have other fields.
  ENSURE(manifest.format_version() == kManifestVersion, path, ": format_version=", manifest.format_version(),
         ", this program reads ", kManifestVersion);
  ENSURE_INTACT(problems.empty(), problems);
  const int64_t updates = moment_updates(manifest);
  ENSURE_INTACT(0 <= manifest.step() && manifest.step() <= updates && updates <= kMostUpdates, path,
                ": step=", manifest.step(), " and moment_updates=", updates,
                ", expected 0 <= step <= moment_updates <= ", kMostUpdates);
  for (const Piece& piece : manifest.pieces()) check_piece(piece, path);
  check_sizes(manifest, path);
  check_stability(manifest.stability(), path);
  return manifest;
}

std::string read_tokenizer_text(const Manifest& manifest, const std::string& folder) {
  if (!manifest.has_tokenizer_xxh3()) return "";
  const std::string path = folder + "/tokenizer.json";
  std::error_code error;
  ENSURE_INTACT(std::filesystem::exists(path, error) || error, path, ": is missing");
  const std::string text = read_text(path);
  ENSURE_INTACT(hex16(xxh3(text)) == manifest.tokenizer_xxh3(), path,
                ": does not match tokenizer_xxh3 of the manifest; the file is damaged");
  return text;
}

}  // namespace sluice
