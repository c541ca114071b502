#pragma once

#include <map>
#include <string>
#include <vector>

namespace sluice {

/// The *.index.json beside weights that are divided into several safetensors files, as Hugging Face writes it.
struct ShardIndex {
  std::map<std::string, std::string> weight_map;  ///< tensor to the file that holds it, a name without folders

  /// The files, each once, by name.
  std::vector<std::string> files() const;
};

/// Reads {"metadata": {...}, "weight_map": {tensor: file}}; other fields do not matter. Throws Error naming the file
/// and the tensor when there is no map, or a file's name is not a plain one: none may lead out of the folder.
ShardIndex read_shard_index(const std::string& path);

}  // namespace sluice
