#include "runtime/checkpoint/reader.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "kernels/core/error.h"
#include "runtime/checkpoint/manifest.h"

namespace sluice {
namespace {

/// Elements of a piece as f32 or f64, wherever they lie.
double element(const char* data, Piece::Type dtype, int64_t i) {
  if (dtype == Piece::F64) {
    double value;
    std::memcpy(&value, data + i * 8, sizeof value);
    return value;
  }
  float value;
  std::memcpy(&value, data + i * 4, sizeof value);
  return value;
}

void copy_elements(const char* from, Piece::Type dtype, int64_t count, Tensor to) {
  const bool same = (dtype == Piece::F64) == (to.dtype == DType::kF64);
  if (same) {
    std::memcpy(to.data, from, static_cast<size_t>(to.bytes()));
  } else if (to.dtype == DType::kF64) {
    for (int64_t i = 0; i < count; ++i) to.as<double>()[i] = element(from, dtype, i);
  } else {
    for (int64_t i = 0; i < count; ++i) to.as<float>()[i] = static_cast<float>(element(from, dtype, i));
  }
}

const char* kind_name(Piece::Kind kind) { return Piece::Kind_Name(kind).c_str(); }

}  // namespace

CheckpointReader::CheckpointReader(const std::string& folder)
    : folder_(folder), manifest_(read_manifest(folder)), pieces_(pieces_by_tensor(manifest_)) {}

const SafetensorsFile& CheckpointReader::shard(const std::string& file) {
  std::unique_ptr<SafetensorsFile>& open = shards_[file];
  if (open) return *open;
  open = std::make_unique<SafetensorsFile>(folder_ + "/" + file);
  for (const ShardFile& entry : manifest_.shards()) {
    if (entry.file() != file) continue;
    ENSURE_INTACT(hex16(open->header_xxh3()) == entry.header_xxh3(), open->path(),
                  ": its header does not match its checksum; the file is damaged");
    return *open;
  }
  throw Error(concat(folder_, "/manifest.textproto: has no shard ", file, " that its pieces are in"), __FILE__,
              __LINE__, Fault::kDamage);
}

std::string_view CheckpointReader::verified_bytes(const Piece& piece, int64_t begin) {
  const int64_t chunk = begin / kChunkBytes, first = chunk * kChunkBytes;
  const int64_t bytes = std::min(kChunkBytes, piece.bytes() - first);
  if (chunk_.piece != &piece || chunk_.index != chunk) {
    chunk_.piece = nullptr;
    const SafetensorsFile& file = shard(piece.file());
    const SafetensorsEntry& entry = file.find(piece.tensor());
    ENSURE_INTACT(entry.end - entry.begin == piece.bytes(), file.path(), ": tensor \"", piece.tensor(), "\" has ",
                  entry.end - entry.begin, " bytes, the manifest says ", piece.bytes());
    chunk_.bytes.resize(kChunkBytes);
    file.read(entry, first, bytes, chunk_.bytes.data());
    const std::string& expected = piece.chunk_xxh3().empty() ? piece.xxh3() : piece.chunk_xxh3(static_cast<int>(chunk));
    ENSURE_INTACT(hex16(xxh3({chunk_.bytes.data(), static_cast<size_t>(bytes)})) == expected, file.path(),
                  ": tensor \"", piece.tensor(), "\" does not match its checksum; the file is damaged");
    chunk_.piece = &piece, chunk_.index = chunk;
  }
  return {chunk_.bytes.data() + (begin - first), static_cast<size_t>(first + bytes - begin)};
}

void CheckpointReader::read(const ParameterRecord& record, Piece::Kind kind, int64_t begin, int64_t end,
                            Tensor elements) {
  const auto pieces = pieces_.find({record.name, kind});
  ENSURE(pieces != pieces_.end(), folder_, ": holds no ", kind_name(kind), " of ", record.name);
  std::vector<Run> wanted = runs_of(record.global_shape, record.boxes, begin, end), found;
  std::ranges::sort(wanted, {}, &Run::global);
  for (const Piece* piece : pieces->second) {
    const bool same_shape = std::equal(piece->global_shape().begin(), piece->global_shape().end(),
                                       record.global_shape.begin(), record.global_shape.end());
    ENSURE(same_shape, folder_, ": ", record.name, " has another shape than the model's");
    read_piece(*piece, record, wanted, elements, found);
  }
  check_complete(record.name, wanted, found);
}

std::vector<CheckpointReader::Overlap> CheckpointReader::overlaps(const std::vector<Run>& stored,
                                                                  const std::vector<Run>& wanted) {
  std::vector<Overlap> overlaps;
  for (const Run& run : stored) {
    auto want = std::partition_point(wanted.begin(), wanted.end(), [&](const Run& w) { return w.end() <= run.global; });
    for (; want != wanted.end() && want->global < run.end(); ++want) {
      const int64_t from = std::max(run.global, want->global), to = std::min(run.end(), want->end());
      overlaps.push_back({{from, to - from, want->at + from - want->global}, run.at + from - run.global});
    }
  }
  return overlaps;
}

void CheckpointReader::read_piece(const Piece& piece, const ParameterRecord& record, const std::vector<Run>& wanted,
                                  Tensor elements, std::vector<Run>& found) {
  const std::vector<Run> stored = runs_of(record.global_shape, piece);
  const std::vector<Overlap> parts = overlaps(stored, wanted);
  if (parts.empty()) return;
  const int64_t element_bytes = piece.dtype() == Piece::F64 ? 8 : 4;
  for (const auto& [part, stored_at] : parts) {
    for (int64_t done = 0; done < part.count;) {
      const std::string_view bytes = verified_bytes(piece, (stored_at + done) * element_bytes);
      const int64_t count = std::min(part.count - done, static_cast<int64_t>(bytes.size()) / element_bytes);
      copy_elements(bytes.data(), piece.dtype(), count, elements.rows(part.at + done, count));
      done += count;
    }
    found.push_back(part);
  }
}

void CheckpointReader::check_complete(const std::string& name, const std::vector<Run>& wanted,
                                      std::vector<Run>& found) const {
  std::ranges::sort(found, {}, &Run::global);
  auto part = found.begin();
  for (const Run& want : wanted) {
    int64_t covered = want.global;
    for (; part != found.end() && part->global < want.end(); ++part) {
      ENSURE_INTACT(part->global >= covered, folder_, ": ", name, ": its pieces overlap at element ", part->global);
      ENSURE_INTACT(part->global == covered, folder_, ": ", name, ": its pieces lack element ", covered);
      covered = part->end();
    }
    ENSURE_INTACT(covered == want.end(), folder_, ": ", name, ": its pieces lack element ", covered);
  }
}

void CheckpointReader::check_parameters(const std::vector<ParameterRecord>& records) const {
  std::set<std::string> names;
  for (const ParameterRecord& record : records) names.insert(record.name);
  for (const auto& [piece, parts] : pieces_) {
    ENSURE(names.count(piece.first), folder_, ": holds ", piece.first, ", which this model lacks");
  }
}

}  // namespace sluice
