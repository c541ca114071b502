#include "runtime/data/data_meta.h"

#include <charconv>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/files/json_depth.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/output_file.h"
#include "runtime/files/xxh3.h"

namespace sluice {
namespace {

int64_t read_count(const nlohmann::json& file, const char* field, const std::string& path) {
  const auto value = file.find(field);
  ENSURE(value != file.end() && value->is_number_integer() && *value >= 0 && *value <= INT64_MAX, path, ": ", field,
         ": expected a number of 0 or more, got ", value == file.end() ? "nothing" : value->dump());
  return value->get<int64_t>();
}

}  // namespace

void write_meta(const std::string& prefix, const DataMeta& meta) {
  const nlohmann::ordered_json file = {{"tokenizer_xxh3", hex16(meta.tokenizer_xxh3)},
                                       {"vocab", meta.vocab},
                                       {"documents", meta.documents},
                                       {"tokens", meta.tokens},
                                       {"bytes", meta.bytes}};
  OutputFile out(prefix + ".meta.json");
  out.write(file.dump(2) + "\n");
  out.commit();
}

std::optional<DataMeta> read_meta(const std::string& prefix) {
  const std::string path = prefix + ".meta.json";
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  const MappedFile mapped(path);
  const nlohmann::json file = nlohmann::json::parse(mapped.bytes(), depth_limit(path), false);
  ENSURE(file.is_object(), path, ": expected a JSON object");
  DataMeta meta;
  const std::string hash = file.value("tokenizer_xxh3", nlohmann::json()).is_string()
                               ? file["tokenizer_xxh3"].get<std::string>()
                               : std::string();
  const auto parsed = std::from_chars(hash.data(), hash.data() + hash.size(), meta.tokenizer_xxh3, 16);
  ENSURE(hash.size() == 16 && parsed.ptr == hash.data() + 16, path,
         ": tokenizer_xxh3: expected 16 hexadecimal digits, got \"", hash, "\"");
  meta.vocab = read_count(file, "vocab", path);
  meta.documents = read_count(file, "documents", path);
  meta.tokens = read_count(file, "tokens", path);
  meta.bytes = read_count(file, "bytes", path);
  return meta;
}

void check_counts(const DataMeta& meta, const IndexedDataset& set) {
  const std::string path = set.prefix() + ".meta.json";
  ENSURE(meta.documents == set.documents(), path, ": documents: ", meta.documents, ", the data set has ",
         set.documents());
  ENSURE(meta.tokens == set.tokens(), path, ": tokens: ", meta.tokens, ", the data set has ", set.tokens());
  ENSURE(meta.bytes >= 1 || set.targets() == 0, path, ": bytes: 0, but the data set has ", set.tokens(), " tokens");
}

void check_tokenizer(const std::string& prefix, const DataMeta& meta, const std::string& tokenizer, uint64_t xxh3) {
  ENSURE(meta.tokenizer_xxh3 == xxh3, "the tokenizer does not match the data: ", prefix,
         ".meta.json: tokenizer_xxh3 is ", hex16(meta.tokenizer_xxh3), ", that of ", tokenizer, " is ", hex16(xxh3));
}

}  // namespace sluice
