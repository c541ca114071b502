#include "runtime/checkpoint/shard_index.h"

#include <set>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/files/file_name.h"
#include "runtime/files/json_depth.h"
#include "runtime/files/mapped_file.h"

namespace sluice {
std::vector<std::string> ShardIndex::files() const {
  std::set<std::string> files;
  for (const auto& [tensor, file] : weight_map) files.insert(file);
  return {files.begin(), files.end()};
}

ShardIndex read_shard_index(const std::string& path) {
  const MappedFile file(path);
  const nlohmann::json json = nlohmann::json::parse(file.bytes(), depth_limit(path), false);
  ENSURE(json.is_object(), path, ": not a JSON object");
  ENSURE(json.contains("weight_map") && json["weight_map"].is_object(), path,
         ": weight_map: expected an object of tensors and their files");
  ShardIndex index;
  for (const auto& [tensor, name] : json["weight_map"].items()) {
    ENSURE(name.is_string() && is_plain_file_name(name.get_ref<const std::string&>()), path, ": weight_map: tensor \"",
           tensor, "\": expected the name of a file in this folder, got ",
           name.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    index.weight_map[tensor] = name.get<std::string>();
  }
  ENSURE(!index.weight_map.empty(), path, ": weight_map: names no tensor");
  return index;
}

}  // namespace sluice
