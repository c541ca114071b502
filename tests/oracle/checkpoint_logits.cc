// What a checkpoint's model says about one document, for other implementations to be compared with.
//   checkpoint_logits STEPDIR TOKENS OUT    TOKENS: i32 [tokens]; OUT: f32 [tokens, vocab]
#include <cstdio>
#include <cstring>
#include <numeric>

#include <glog/logging.h>

#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "launch/loaded_model.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/output_file.h"
#include "runtime/step.h"

namespace sluice {
namespace {

Batch one_document(const std::string& path) {
  const MappedFile file(path);
  Batch batch;
  batch.tokens.resize(file.bytes().size() / sizeof(int32_t));
  std::memcpy(batch.tokens.data(), file.bytes().data(), batch.tokens.size() * sizeof(int32_t));
  batch.targets.assign(batch.tokens.size(), -1);
  batch.positions.resize(batch.tokens.size());
  std::iota(batch.positions.begin(), batch.positions.end(), 0);
  batch.document_offsets = {0, static_cast<int32_t>(batch.tokens.size())};
  return batch;
}

void write_logits(const std::string& step_dir, const std::string& tokens, const std::string& out) {
  Session session;
  LoadedModel loaded(step_dir, session);
  const ModelConfig& config = loaded.config().model();
  const Batch batch = one_document(tokens);
  const int64_t count = static_cast<int64_t>(batch.tokens.size());
  const Transformer transformer = loaded.make_transformer(count);
  ActivationMemory memory;
  StepContext ctx = memory.context(loaded.stream(), loaded.mesh());
  StepSums sums;
  sums.router = ctx.scratch.alloc("router_sums", DType::kF64, {config.num_layers(), 3});
  const int64_t experts = config.has_moe() ? config.moe().num_experts() : 0;
  sums.expert_counts = ctx.scratch.alloc("expert_counts", DType::kI64, {config.num_layers(), experts});
  fill_zero(ctx.stream, sums.router);
  fill_zero(ctx.stream, sums.expert_counts);
  TransformerSaved saved;
  transformer.forward(ctx, loaded.weights(), token_batch(batch), {}, sums, saved);
  Tensor logits = ctx.scratch.alloc("logits", saved.normed.dtype, {count, config.vocab_size()});
  linear_forward(ctx.stream, saved.normed, loaded.weights().head(), logits);
  ENSURE(logits.dtype == DType::kF32, step_dir, ": precision is not F32");
  OutputFile file(out);
  file.write(logits.data, static_cast<size_t>(logits.bytes()));
  file.commit();
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) try {
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  if (argc != 4) return std::fprintf(stderr, "usage: checkpoint_logits STEPDIR TOKENS OUT\n"), 1;
  sluice::write_logits(argv[1], argv[2], argv[3]);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
