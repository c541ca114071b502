#include "tests/fuzz/targets.h"

#include <utility>

#include <zlib.h>
#include <zstd.h>

#include "runtime/config.h"
#include "runtime/convert/hugging_face_config.h"
#include "runtime/convert/hugging_face_folder.h"
#include "runtime/data/bpe_trainer.h"
#include "runtime/data/corpus.h"
#include "runtime/data/data_meta.h"
#include "runtime/data/split_pattern.h"
#include "runtime/data/tokenizer.h"
#include "runtime/data/tokenizer_spec.h"
#include "runtime/metrics/metrics_log.h"
#include "runtime/stability/curve_file.h"
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

FuzzTarget hugging_face_config_target() {
  TrainConfig config = parse_config(kConfig, "fuzz");
  config.mutable_model()->mutable_yarn()->set_factor(4);
  config.mutable_model()->mutable_yarn()->set_original_length(64);
  return {"HuggingFaceConfig", hugging_face_config(config, HuggingFaceFormat::kQwen3Moe, 256),
          [](const std::string& bytes) {
            ImportedConfig imported = parse_hugging_face_config(bytes, "fuzz", HuggingFaceFormat::kQwen3Moe);
            validate_training(imported.config, 1);
          }};
}

FuzzTarget hugging_face_index_target() {
  const std::string path = folder() / "hugging_face";
  std::filesystem::create_directories(path);
  for (const char* name : {"a", "b"}) {
    SafetensorsWriter writer(path + "/" + name + ".safetensors", {{name, "F32", {1}, 0, 0}});
    writer.write("1234", 4);
    writer.commit();
  }
  return {"HuggingFaceIndex", R"({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}})",
          [path](const std::string& bytes) {
            folder().write("hugging_face/model.safetensors.index.json", bytes);
            const HuggingFaceFolder model(path);
            float value;
            if (model.has("b")) model.read("b", 0, 1, &value);
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

FuzzTarget curve_target() {
  return {"Curve", "step,lm_loss\n1,9.5\n4,8.25e0\n", [](const std::string& bytes) {
            const std::vector<CurvePoint> curve = read_curve(folder().write("curve.csv", bytes));
            EpisodeFinder finder{StabilityConfig()};
            for (const CurvePoint& point : curve) finder.see(point);
          }};
}

FuzzTarget text_target() {
  return {"Text", "caf\xc3\xa9 na\xc3\xafve \xf0\x9f\x98\x80 \xff\xfe plain", [](const std::string& bytes) {
            static const Tokenizer tokenizer(tokenizer_json_target().seed, "trained");
            INVARIANT(tokenizer.decode(tokenizer.encode(bytes)) == bytes, "bytes were not kept");
          }};
}

}  // namespace

std::vector<FuzzTarget> fuzz_targets() {
  std::vector<FuzzTarget> targets = file_targets();
  for (FuzzTarget& target :
       std::vector{config_target(), override_target(), meta_target(), tokenizer_json_target(), tiktoken_target(),
                   jsonl_target(), gzip_target(), zstd_target(), metrics_log_target(), text_target(), curve_target(),
                   hugging_face_config_target(), hugging_face_index_target()}) {
    targets.push_back(std::move(target));
  }
  return targets;
}

}  // namespace sluice
