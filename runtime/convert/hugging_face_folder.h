#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/weight_map.h"
#include "runtime/checkpoint/safetensors.h"

namespace sluice {

/// The weights of a Hugging Face model folder: model.safetensors, or the files that model.safetensors.index.json names.
class HuggingFaceFolder {
 public:
  /// Opens and checks every file. Throws Error naming what is missing, or where index and files differ.
  explicit HuggingFaceFolder(const std::string& path);

  int64_t tensors() const { return static_cast<int64_t>(places_.size()); }
  bool has(const std::string& tensor) const { return places_.count(tensor) > 0; }
  /// Throws Error naming file and tensor unless the folder holds these tensors in these shapes, as F32, F16 or BF16.
  void check_holds(const std::vector<ForeignTensor>& tensors) const;
  /// Throws Error when there is any other tensor.
  void check_holds_only(const std::vector<ForeignTensor>& tensors) const;
  /// Elements [first, first + count) of a tensor that check_holds has seen.
  ///   out  [count], out
  void read(const std::string& tensor, int64_t first, int64_t count, float* out) const;

 private:
  struct Place {
    const SafetensorsFile* file;
    const SafetensorsEntry* entry;
  };
  void open(const std::string& name);
  void open_indexed(const std::string& path);

  std::string path_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Place> places_;
};

}  // namespace sluice
