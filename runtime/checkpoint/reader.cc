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

/// The bytes of a piece, of which every chunk is compared with its checksum before it is used.
class VerifiedBytes {
 public:
  VerifiedBytes(std::string_view bytes, const Piece& piece, const std::string& path)
      : bytes_(bytes), piece_(piece), path_(path), good_(static_cast<size_t>(std::max(1, piece.chunk_xxh3_size()))) {
    ENSURE(static_cast<int64_t>(bytes.size()) == piece.bytes(), path, ": tensor \"", piece.tensor(), "\" has ",
           bytes.size(), " bytes, the manifest says ", piece.bytes());
  }

  /// Bytes [begin, begin + count), which are not none.
  const char* at(int64_t begin, int64_t count) {
    if (piece_.chunk_xxh3().empty()) {
      verify(0, bytes_, piece_.xxh3());
    } else {
      for (int64_t chunk = begin / kChunkBytes; chunk * kChunkBytes < begin + count; ++chunk) {
        verify(static_cast<size_t>(chunk), bytes_.substr(static_cast<size_t>(chunk * kChunkBytes), kChunkBytes),
               piece_.chunk_xxh3(static_cast<int>(chunk)));
      }
    }
    return bytes_.data() + begin;
  }

 private:
  void verify(size_t chunk, std::string_view bytes, const std::string& expected) {
    if (good_[chunk]) return;
    ENSURE(hex16(xxh3(bytes)) == expected, path_, ": tensor \"", piece_.tensor(),
           "\" does not match its checksum; the file is damaged");
    good_[chunk] = true;
  }

  const std::string_view bytes_;
  const Piece& piece_;
  const std::string& path_;
  std::vector<bool> good_;
};

}  // namespace

CheckpointReader::CheckpointReader(const std::string& folder) : folder_(folder), manifest_(read_manifest(folder)) {
  for (const Piece& piece : manifest_.pieces()) pieces_[{piece.name(), piece.kind()}].push_back(&piece);
}

const SafetensorsFile& CheckpointReader::shard(const std::string& file) {
  std::unique_ptr<SafetensorsFile>& open = shards_[file];
  if (!open) open = std::make_unique<SafetensorsFile>(folder_ + "/" + file);
  return *open;
}

std::vector<CheckpointReader::Run> CheckpointReader::runs(const std::vector<int64_t>& shape,
                                                          const std::vector<Box>& boxes, int64_t begin, int64_t end) {
  std::vector<Run> runs;
  int64_t at = 0;
  for_each_run(shape, boxes, [&](int64_t global, int64_t count) {
    const int64_t from = std::max(at, begin), to = std::min(at + count, end);
    if (from < to) runs.push_back({global + from - at, to - from, from - begin});
    at += count;
  });
  return runs;
}

void CheckpointReader::read(const ParameterRecord& record, Piece::Kind kind, int64_t begin, int64_t end,
                            Tensor elements) {
  const auto pieces = pieces_.find({record.name, kind});
  ENSURE(pieces != pieces_.end(), folder_, ": holds no ", kind_name(kind), " of ", record.name);
  std::vector<Run> wanted = runs(record.global_shape, record.boxes, begin, end), found;
  std::sort(wanted.begin(), wanted.end(), [](const Run& a, const Run& b) { return a.global < b.global; });
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
  const std::vector<Run> stored =
      runs(record.global_shape, boxes_of(piece), piece.flat_begin(), piece.flat_begin() + piece.flat_count());
  const std::vector<Overlap> parts = overlaps(stored, wanted);
  if (parts.empty()) return;
  const SafetensorsFile& file = shard(piece.file());
  VerifiedBytes bytes(file.bytes(file.find(piece.tensor())), piece, file.path());
  const int64_t element_bytes = piece.dtype() == Piece::F64 ? 8 : 4;
  for (const auto& [part, stored_at] : parts) {
    copy_elements(bytes.at(stored_at * element_bytes, part.count * element_bytes), piece.dtype(), part.count,
                  elements.rows(part.at, part.count));
    found.push_back(part);
  }
}

void CheckpointReader::check_complete(const std::string& name, const std::vector<Run>& wanted,
                                      std::vector<Run>& found) const {
  std::sort(found.begin(), found.end(), [](const Run& a, const Run& b) { return a.global < b.global; });
  auto part = found.begin();
  for (const Run& want : wanted) {
    int64_t covered = want.global;
    for (; part != found.end() && part->global < want.end(); ++part) {
      ENSURE(part->global >= covered, folder_, ": ", name, ": its pieces overlap at element ", part->global);
      ENSURE(part->global == covered, folder_, ": ", name, ": its pieces lack element ", covered);
      covered = part->end();
    }
    ENSURE(covered == want.end(), folder_, ": ", name, ": its pieces lack element ", covered);
  }
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
