#include "tests/fuzz/targets.h"

#include <zlib.h>
#include <zstd.h>

#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/config.h"
#include "runtime/data/bpe_trainer.h"
#include "runtime/data/corpus.h"
#include "runtime/data/data_meta.h"
#include "runtime/data/indexed_dataset.h"
#include "runtime/data/indexed_writer.h"
#include "runtime/data/split_pattern.h"
#include "runtime/data/tokenizer.h"
#include "runtime/data/tokenizer_spec.h"
#include "runtime/files/xxh3.h"
#include "runtime/metrics/metrics_log.h"
#include "runtime/validate.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

constexpr const char* kConfig = R"(model {
  hidden_size: 64 num_layers: 2 num_attention_heads: 4 num_key_value_heads: 2 head_dim: 16 vocab_size: 257
  moe { num_experts: 4 top_k: 2 moe_intermediate_size: 32 norm_topk_prob: true }
  gates { position: G1 granularity: ELEMENTWISE }
}
training { steps: 20 sequence_length: 64 micro_batch_size: 4 global_batch_size: 8 }
optimizer { lr: 5e-3 warmup_steps: 4 schedule: WSD }
data { tokenizer: "bytes" train { prefix: "data" weight: 2 } eval { name: "own" prefix: "held" } }
)";
constexpr int64_t kVocab = 300;

TempFolder& folder() {
  static TempFolder folder;
  return folder;
}

FuzzTarget config_target() {
  return {"Config", kConfig, [](const std::string& bytes) {
            TrainConfig config = parse_config(bytes, "fuzz");
            validate_training(config, 1);
          }};
}

FuzzTarget override_target() {
  return {"Override", "data.train[0]={prefix: \"a\" weight: 3e-1}",
          [](const std::string& bytes) { parse_config(kConfig, "fuzz", {bytes}); }};
}

FuzzTarget index_target() {
  const std::string prefix = folder() / "index";
  IndexedWriter writer(prefix, kVocab);
  for (int length : {5, 1, 30}) writer.add(std::vector<int32_t>(static_cast<size_t>(length), 7));
  writer.finish();
  return {"IndexedDataset", folder().read("index.idx"), [prefix](const std::string& bytes) {
            folder().write("index.idx", bytes);
            const IndexedDataset set(prefix);
            std::vector<int32_t> ids(static_cast<size_t>(set.tokens()));
            set.read(0, set.tokens(), kVocab, ids.data());
            for (int64_t d = 0; d < set.documents(); ++d)
              set.document_of(std::max<int64_t>(0, set.document_start(d) - 1));
          }};
}

FuzzTarget meta_target() {
  const std::string prefix = folder() / "meta";
  write_meta(prefix, {0x0123456789abcdef, 512, 7, 1000, 4000});
  return {"Meta", folder().read("meta.meta.json"), [prefix](const std::string& bytes) {
            folder().write("meta.meta.json", bytes);
            read_meta(prefix);
          }};
}

void use_tokenizer(const std::string& bytes) {
  const Tokenizer tokenizer(bytes, "fuzz");
  const std::string text = "the cat\tthe \xff hat 123 <|endoftext|>e\xcc\x81";
  tokenizer.decode(tokenizer.encode(text));
}

FuzzTarget tokenizer_json_target() {
  const WordCounts words = {{"the", 9}, {" the", 7}, {" cat", 5}, {" hat", 4}, {"123", 3}};
  return {"TokenizerJson", format_tokenizer_json(train_bpe(words, 265, kQwenRegex)), use_tokenizer};
}

FuzzTarget tiktoken_target() {
  std::string ranks;
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t b = 0; b < 256; ++b) {
    ranks += std::string{digits[b >> 2], digits[b % 4 * 16]} + "== " + std::to_string(b) + "\n";
  }
  ranks += "dGg= 256\ndGhl 257\n";
  return {"Tiktoken", ranks, [](const std::string& bytes) {
            const Tokenizer tokenizer(bytes, "fuzz_gpt2");
            tokenizer.decode(tokenizer.encode("the then\xff"));
          }};
}

ParameterRecord make_record() {
  ParameterRecord r;
  r.name = "a.weight";
  r.global_shape = {3, 5};
  r.boxes = {{{0, 0}, {3, 5}}};
  r.count = 15;
  return r;
}

/// A checkpoint folder of one parameter.
std::string make_checkpoint(const std::string& name) {
  const std::string path = folder() / name;
  std::filesystem::create_directories(path);
  std::vector<float> values(15, 1.5f);
  const Tensor flat{values.data(), DType::kF32, Device::kCpu, {15}};
  const ParameterRecord record = make_record();
  write_manifest(path, write_shard(path, 0, 1, {{&record, 0, 15, flat, flat, flat}}));
  return path;
}

void read_checkpoint(const std::string& path) {
  CheckpointReader reader(path);
  std::vector<float> values(15);
  reader.read(make_record(), Piece::MASTER, {values.data(), DType::kF32, Device::kCpu, {15}});
  reader.verify_shards();
}

FuzzTarget safetensors_target() {
  const std::string path = make_checkpoint("shards") + "/shard-00000-of-00001.safetensors";
  return {"Safetensors", folder().read("shards/shard-00000-of-00001.safetensors"), [path](const std::string& bytes) {
            folder().write("shards/shard-00000-of-00001.safetensors", bytes);
            const SafetensorsFile file(path);
            size_t sum = 0;
            for (const SafetensorsEntry& entry : file.entries()) {
              for (const char byte : file.bytes(entry)) sum += static_cast<unsigned char>(byte);
            }
            ENSURE(sum != 1, "the bytes were read");
          }};
}

/// Without the line of its own hash, which is put right: it would refuse nearly everything.
FuzzTarget manifest_target() {
  const std::string path = make_checkpoint("manifest");
  const std::string text = folder().read("manifest/manifest.textproto");
  return {"Manifest", text.substr(0, text.rfind("manifest_xxh3")), [path](const std::string& bytes) {
            folder().write("manifest/manifest.textproto", bytes + "manifest_xxh3: \"" + hex16(xxh3(bytes)) + "\"\n");
            read_checkpoint(path);
          }};
}

void read_corpus(const std::string& file, const std::string& bytes) {
  CorpusReader reader({folder().write(file, bytes)});
  for (Document document; reader.next(document);) ENSURE(!document.text.empty(), "an empty document");
}

FuzzTarget jsonl_target() {
  return {"Jsonl", "{\"text\": \"one \\u00e9 \\ud83d\\ude00\"}\n\n{\"id\": 3, \"text\": \"two \xff three\"}\n",
          [](const std::string& bytes) { read_corpus("corpus.jsonl", bytes); }};
}

FuzzTarget gzip_target() {
  const std::string path = folder() / "seed.gz";
  gzFile file = gzopen(path.c_str(), "wb");
  gzputs(file, "some text, some more text, and the same text once more");
  gzclose(file);
  return {"Gzip", folder().read("seed.gz"), [](const std::string& bytes) { read_corpus("corpus.txt.gz", bytes); }};
}

FuzzTarget zstd_target() {
  const std::string text = "some text, some more text, and the same text once more";
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return {"Zstd", packed, [](const std::string& bytes) { read_corpus("corpus.txt.zst", bytes); }};
}

FuzzTarget metrics_log_target() {
  return {"MetricsLog", "{\"step\":1,\"loss\":2.5}\n{\"step\":2,\"loss\":null}\n{\"step\":3,\"layers\":{\"a\":[1]}}\n",
          [](const std::string& bytes) { cut_metrics_log(folder().write("metrics.jsonl", bytes), 3); }};
}

FuzzTarget text_target() {
  return {"Text", "caf\xc3\xa9 na\xc3\xafve \xf0\x9f\x98\x80 \xff\xfe plain", [](const std::string& bytes) {
            static const Tokenizer tokenizer(tokenizer_json_target().seed, "trained");
            INVARIANT(tokenizer.decode(tokenizer.encode(bytes)) == bytes, "bytes were not kept");
          }};
}

}  // namespace

std::vector<FuzzTarget> fuzz_targets() {
  return {config_target(),   override_target(),    index_target(),    meta_target(),  tokenizer_json_target(),
          tiktoken_target(), safetensors_target(), manifest_target(), jsonl_target(), gzip_target(),
          zstd_target(),     metrics_log_target(), text_target()};
}

bool survives(const FuzzTarget& target, const std::string& bytes) {
  try {
    target.parse(bytes);
  } catch (const Error& error) {
    return error.fault() == Fault::kUser;
  }
  return true;
}

}  // namespace sluice
