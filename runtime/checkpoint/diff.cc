#include "runtime/checkpoint/diff.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include <google/protobuf/util/message_differencer.h>

#include "configs/train.pb.h"
#include "kernels/core/error.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/checkpoint/stored_tensors.h"
#include "runtime/files/text_message.h"

namespace sluice {
namespace {

using google::protobuf::util::MessageDifferencer;

/// Elements of either checkpoint that are in memory at a time.
constexpr int64_t kBlock = int64_t{1} << 21;

/// One line a difference, with `prefix` before it.
void add_differences(const google::protobuf::Message& a, const google::protobuf::Message& b, const std::string& prefix,
                     std::vector<std::string>& lines) {
  MessageDifferencer differencer;
  differencer.set_message_field_comparison(MessageDifferencer::EQUIVALENT);
  std::string report;
  differencer.ReportDifferencesToString(&report);
  differencer.Compare(a, b);
  std::istringstream text(report);
  for (std::string line; std::getline(text, line);) lines.push_back(prefix + line);
}

std::vector<std::string> other_differences(Manifest a, Manifest b) {
  std::vector<std::string> lines;
  TrainConfig config_a, config_b;
  const bool readable = merge_text(a.config(), "A", config_a).empty() && merge_text(b.config(), "B", config_b).empty();
  if (readable) {
    add_differences(config_a, config_b, "config: ", lines);
  } else if (a.config() != b.config()) {
    lines.push_back("config: the texts differ, and not both can be read");
  }
  for (Manifest* manifest : {&a, &b}) {
    manifest->clear_config();
    manifest->clear_shards();
    manifest->clear_pieces();
    manifest->clear_manifest_xxh3();
  }
  add_differences(a, b, "", lines);
  return lines;
}

std::vector<int64_t> index_of(int64_t element, const std::vector<int64_t>& shape) {
  std::vector<int64_t> index(shape.size());
  for (size_t i = shape.size(); i-- > 0; element /= shape[i]) index[i] = element % shape[i];
  return index;
}

/// Compares one tensor, a block after the other.
class Comparison {
 public:
  Comparison(const StoredTensor& a, TensorDifference& difference) : shape_(a.record.global_shape), out_(difference) {}

  template <class T>
  void add(const T* a, const T* b, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const double magnitude = std::fabs(static_cast<double>(a[i]));
      if (magnitude > largest_a_) largest_a_ = magnitude;
    }
    if (std::memcmp(a, b, static_cast<size_t>(count) * sizeof(T)) != 0) {
      for (int64_t i = 0; i < count; ++i) {
        if (std::memcmp(a + i, b + i, sizeof(T)) != 0) add_differing(out_.elements + i, a[i], b[i]);
      }
    }
    out_.elements += count;
  }

  void finish(bool same_type) {
    out_.finding = out_.differing > 0 ? TensorDifference::kDiffers
                   : same_type        ? TensorDifference::kEqual
                                      : TensorDifference::kOtherType;
    if (out_.max_abs_difference > 0) out_.relative = out_.max_abs_difference / largest_a_;
  }

 private:
  void add_differing(int64_t element, double a, double b) {
    double difference = std::fabs(a - b);
    if (std::isnan(difference)) difference = std::numeric_limits<double>::infinity();
    if (out_.differing++ > 0 && difference <= out_.max_abs_difference) return;
    out_.max_abs_difference = difference;
    out_.a = a;
    out_.b = b;
    out_.at = index_of(element, shape_);
  }

  const std::vector<int64_t>& shape_;
  TensorDifference& out_;
  double largest_a_ = 0;
};

/// A checkpoint, and a block of one of its tensors in memory.
class Side {
 public:
  explicit Side(const std::string& folder) : reader_(folder), block_(static_cast<size_t>(kBlock)) {
    for (StoredTensor& tensor : stored_tensors(reader_.manifest(), folder)) {
      const std::pair key(tensor.kind, tensor.record.name);
      tensors_.emplace(key, std::move(tensor));
    }
  }
  using Tensors = std::map<std::pair<Piece::Kind, std::string>, StoredTensor>;

  const Manifest& manifest() const { return reader_.manifest(); }
  const Tensors& tensors() const { return tensors_; }
  template <class T>
  const T* read(const StoredTensor& tensor, int64_t begin, int64_t count) {
    T* elements = reinterpret_cast<T*>(block_.data());
    reader_.read(tensor.record, tensor.kind, begin, begin + count, {elements, dtype_of<T>(), Device::kCpu, {count}});
    return elements;
  }

 private:
  CheckpointReader reader_;
  Tensors tensors_;
  std::vector<double> block_;
};

template <class T>
void compare(Side& a, Side& b, const StoredTensor& tensor_a, const StoredTensor& tensor_b, TensorDifference& out) {
  Comparison comparison(tensor_a, out);
  for (int64_t begin = 0; begin < tensor_a.record.count; begin += kBlock) {
    const int64_t count = std::min(kBlock, tensor_a.record.count - begin);
    comparison.add(a.read<T>(tensor_a, begin, count), b.read<T>(tensor_b, begin, count), count);
  }
  comparison.finish(tensor_a.type == tensor_b.type);
}

TensorDifference compare_tensor(Side& a, Side& b, const Side::Tensors::key_type& key) {
  const auto in_a = a.tensors().find(key), in_b = b.tensors().find(key);
  const bool has_a = in_a != a.tensors().end(), has_b = in_b != b.tensors().end();
  TensorDifference out;
  out.kind = key.first;
  out.name = key.second;
  if (has_a) out.shape_a = in_a->second.record.global_shape;
  if (has_b) out.shape_b = in_b->second.record.global_shape;
  if (!has_a || !has_b) {
    out.finding = has_a ? TensorDifference::kOnlyInA : TensorDifference::kOnlyInB;
  } else if (out.shape_a != out.shape_b) {
    out.finding = TensorDifference::kOtherShape;
  } else if (in_a->second.type == Piece::F32 && in_b->second.type == Piece::F32) {
    // As they are: a signalling NaN would not stay one in f64.
    compare<float>(a, b, in_a->second, in_b->second, out);
  } else {
    compare<double>(a, b, in_a->second, in_b->second, out);
  }
  return out;
}

}  // namespace

bool CheckpointDifference::tensors_equal() const {
  return std::ranges::all_of(tensors, [](const TensorDifference& t) { return t.finding == TensorDifference::kEqual; });
}

CheckpointDifference diff_checkpoints(const std::string& folder_a, const std::string& folder_b) {
  Side a(folder_a), b(folder_b);
  CheckpointDifference result;
  result.others = other_differences(a.manifest(), b.manifest());
  std::set<Side::Tensors::key_type> keys;
  for (const Side* side : {&a, &b}) {
    for (const auto& [key, tensor] : side->tensors()) keys.insert(key);
  }
  for (const auto& key : keys) result.tensors.push_back(compare_tensor(a, b, key));
  return result;
}

}  // namespace sluice
