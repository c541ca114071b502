#include "runtime/checkpoint/reader.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "kernels/core/error.h"
#include "runtime/checkpoint/manifest.h"

namespace sluice {
namespace {

std::vector<Box> boxes_of(const Piece& piece) {
  std::vector<Box> boxes;
  for (const PieceBox& box : piece.boxes()) {
    boxes.push_back({{box.begin().begin(), box.begin().end()}, {box.end().begin(), box.end().end()}});
  }
  return boxes;
}

bool holds_everything(const ParameterRecord& record) { return record.count == record.global_count(); }

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

CheckpointReader::CheckpointReader(const std::string& folder) : folder_(folder), manifest_(read_manifest(folder)) {
  for (const Piece& piece : manifest_.pieces()) pieces_[{piece.name(), piece.kind()}].push_back(&piece);
}

const SafetensorsFile& CheckpointReader::shard(const std::string& file) {
  std::unique_ptr<SafetensorsFile>& open = shards_[file];
  if (!open) open = std::make_unique<SafetensorsFile>(folder_ + "/" + file);
  return *open;
}

void CheckpointReader::read(const ParameterRecord& record, Piece::Kind kind, Tensor flat) {
  const auto found = pieces_.find({record.name, kind});
  ENSURE(found != pieces_.end(), folder_, ": holds no ", kind_name(kind), " of ", record.name);
  INVARIANT(holds_everything(record), "reading a part of ", record.name);
  std::vector<std::pair<int64_t, int64_t>> ranges;  // of the whole parameter, [begin, end)
  for (const Piece* piece : found->second) {
    const bool same_shape = std::equal(piece->global_shape().begin(), piece->global_shape().end(),
                                       record.global_shape.begin(), record.global_shape.end());
    ENSURE(same_shape, folder_, ": ", record.name, " has another shape than the model's");
    read_piece(*piece, record, flat, ranges);
  }
  std::sort(ranges.begin(), ranges.end());
  int64_t covered = 0;
  for (const auto& [begin, end] : ranges) {
    ENSURE(begin == covered, folder_, ": ", record.name, ": its pieces ", begin < covered ? "overlap" : "leave a gap",
           " at element ", std::min(begin, covered));
    covered = end;
  }
  ENSURE(covered == record.global_count(), folder_, ": holds ", covered, " of the ", record.global_count(),
         " elements of ", record.name);
}

void CheckpointReader::read_piece(const Piece& piece, const ParameterRecord& record, Tensor flat,
                                  std::vector<std::pair<int64_t, int64_t>>& ranges) {
  const SafetensorsFile& file = shard(piece.file());
  const std::string_view bytes = file.bytes(file.find(piece.tensor()));
  ENSURE(static_cast<int64_t>(bytes.size()) == piece.bytes(), file.path(), ": tensor \"", piece.tensor(), "\" has ",
         bytes.size(), " bytes, the manifest says ", piece.bytes());
  ENSURE(hex16(xxh3(bytes)) == piece.xxh3(), file.path(), ": tensor \"", piece.tensor(),
         "\" does not match its checksum; the file is damaged");
  // The piece is elements [flat_begin, flat_begin + flat_count) of the concatenation of its boxes.
  const int64_t element_bytes = piece.dtype() == Piece::F64 ? 8 : 4;
  const int64_t end = piece.flat_begin() + piece.flat_count();
  int64_t at = 0;
  for_each_run(record.global_shape, boxes_of(piece), [&](int64_t global, int64_t count) {
    const int64_t from = std::max(at, piece.flat_begin()), to = std::min(at + count, end);
    if (from < to) {
      ranges.emplace_back(global + from - at, global + to - at);
      copy_elements(bytes.data() + (from - piece.flat_begin()) * element_bytes, piece.dtype(), to - from,
                    flat.rows(record.flat_begin + global + from - at, to - from));
    }
    at += count;
  });
}

void CheckpointReader::check_parameters(const std::vector<ParameterRecord>& records) const {
  std::set<std::string> names;
  for (const ParameterRecord& record : records) names.insert(record.name);
  for (const auto& [piece, parts] : pieces_) {
    ENSURE(names.count(piece.first), folder_, ": holds ", piece.first, ", which this model lacks");
  }
}

void CheckpointReader::verify_shards() {
  for (const ShardFile& entry : manifest_.shards()) {
    const MappedFile file(folder_ + "/" + entry.file());
    ENSURE(hex16(xxh3(file.bytes())) == entry.xxh3(), file.path(),
           ": does not match its checksum; the file is damaged");
  }
}

}  // namespace sluice
