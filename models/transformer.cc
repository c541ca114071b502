#include "models/transformer.h"

#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/reduce.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "models/head.h"
#include "parallel/token_parallel.h"

namespace sluice {

namespace {

Yarn yarn_of(const ModelConfig& config) {
  if (!config.has_yarn()) return {};
  const YarnConfig& yarn = config.yarn();
  return {yarn.factor(), static_cast<double>(yarn.original_length()), yarn.beta_fast(), yarn.beta_slow()};
}

}  // namespace

Transformer::Transformer(const ModelConfig& config, const TrainingConfig& training, DType dtype, int64_t max_positions,
                         Arena& state)
    : config_(config), recompute_(static_cast<size_t>(config.num_layers()), false) {
  for (const RecomputeRange& range : training.recompute()) {
    for (int64_t i = range.first_layer(); i <= range.last_layer(); ++i) recompute_.at(static_cast<size_t>(i)) = true;
  }
  if (config.has_mup()) {
    logit_scale_ = static_cast<double>(config.mup().base_hidden_size()) / static_cast<double>(config.hidden_size());
  }
  rope_.cosine = state.alloc("rope_cosine", exact_dtype(dtype), {max_positions, config.head_dim() / 2});
  rope_.sine = state.alloc("rope_sine", exact_dtype(dtype), {max_positions, config.head_dim() / 2});
  if (state.source() != MemorySource::kNone) {
    rope_tables(config.rope_theta(), yarn_of(config), rope_.cosine, rope_.sine);
  }
}

Tensor Transformer::embed(StepContext& ctx, const ModelTensors& p, const TokenBatch& batch) const {
  const int64_t tokens = batch.tokens.dim(0), tp = ctx.mesh.shape().tp;
  INVARIANT(tokens % tp == 0, tokens, " tokens do not divide among tp=", tp);
  const Tensor x = ctx.kept.alloc("embedded", p.embed_tokens.dtype, {tokens / tp, config_.hidden_size()});
  const ArenaScope scope(ctx.scratch);
  PartialSum sum(ctx.stream, ctx.mesh.tp(), ctx.scratch, {}, x);
  embedding_forward(ctx.stream, batch.tokens, p.embed_tokens, vocabulary_part(ctx), sum.term());
  sum.finish();
  if (ctx.probe) ctx.probe->see("embedding", -1, x);
  return x;
}

void Transformer::forward(StepContext& ctx, const ModelTensors& p, const TokenBatch& batch, const LossScale& scale,
                          StepSums& sums, TransformerSaved& saved, std::vector<LayerCache>* caches) const {
  const DType dtype = p.embed_tokens.dtype;
  saved.blocks.resize(p.blocks.size());
  const BlockContext shared{config_, rope_, batch, scale};
  const Stages stages(config_);

  if (ctx.hooks) ctx.hooks->before_forward(stages.embedding());
  Tensor x = embed(ctx, p, batch);
  for (size_t i = 0; i < p.blocks.size(); ++i) {
    if (ctx.hooks) ctx.hooks->before_forward(stages.block(static_cast<int64_t>(i)));
    saved.blocks[i].input = x;
    Tensor y = ctx.kept.alloc("block_out", dtype, x.shape);
    block_forward(ctx, shared, static_cast<int64_t>(i), p.blocks[i], y, sums, saved.blocks[i], recompute_[i],
                  caches ? &(*caches)[i] : nullptr);
    x = y;
  }
  if (ctx.hooks) ctx.hooks->before_forward(stages.head());
  saved.last = x;
  saved.norm_rstd = ctx.saved.alloc("norm_rstd", exact_dtype(dtype), {x.dim(0)});
  saved.normed = ctx.saved.alloc("normed", dtype, x.shape);
  rms_norm_forward(ctx.stream, x, p.norm, config_.rms_norm_eps(), saved.normed, saved.norm_rstd);
  if (logit_scale_ != 1) scale_hidden(ctx, saved.normed);
}

void Transformer::train_micro_step(StepContext& ctx, const ModelTensors& p, const TokenBatch& batch,
                                   const LossScale& scale, StepSums& sums, TransformerSaved& saved,
                                   ModelTensors& grads) const {
  const ArenaScope kept(ctx.kept), saved_scope(ctx.saved), scratch(ctx.scratch);
  forward(ctx, p, batch, scale, sums, saved);
  if (ctx.hooks) {
    if (config_.tie_word_embeddings()) ctx.hooks->before_backward(Stages::embedding());
    ctx.hooks->before_backward(Stages(config_).head());
  }
  Tensor losses = ctx.scratch.alloc("losses", DType::kF64, batch.targets.shape);
  Tensor d_normed = ctx.scratch.alloc("d_normed", saved.normed.dtype, saved.normed.shape);
  Tensor& d_head = grads.lm_head ? grads.lm_head : grads.embed_tokens;
  head_loss(ctx, saved.normed, p.head(), batch.targets, scale.per_target(), losses, d_normed, d_head);

  // Every rank of tp has all losses; each adds those of its own tokens.
  const int64_t own = saved.normed.dim(0);
  Tensor lm_loss = ctx.scratch.alloc("lm_loss", DType::kF64, {1});
  sum(ctx.stream, losses.rows(ctx.mesh.place().tp * own, own), lm_loss);
  add(ctx.stream, sums.lm_loss, lm_loss, sums.lm_loss);
  backward(ctx, p, batch, scale, saved, d_normed, grads);
}

void Transformer::backward(StepContext& ctx, const ModelTensors& p, const TokenBatch& batch, const LossScale& scale,
                           TransformerSaved& saved, Tensor d_normed, ModelTensors& grads) const {
  const BlockContext shared{config_, rope_, batch, scale};
  const Stages stages(config_);
  if (logit_scale_ != 1) scale_hidden(ctx, d_normed);
  Tensor d = ctx.scratch.alloc("d_residual", d_normed.dtype, d_normed.shape);
  rms_norm_backward(ctx.stream, d_normed, saved.last, p.norm, saved.norm_rstd, d, grads.norm);
  if (ctx.probe) ctx.probe->see("gradient behind the last layer", config_.num_layers(), d);
  if (ctx.hooks) ctx.hooks->after_backward(stages.head());
  for (size_t i = p.blocks.size(); i-- > 0;) {
    const int stage = stages.block(static_cast<int64_t>(i));
    if (ctx.hooks) ctx.hooks->before_backward(stage);
    block_backward(ctx, shared, static_cast<int64_t>(i), p.blocks[i], saved.blocks[i], recompute_[i], d,
                   grads.blocks[i]);
    if (ctx.hooks) ctx.hooks->after_backward(stage);
  }
  if (ctx.hooks && !config_.tie_word_embeddings()) ctx.hooks->before_backward(stages.embedding());
  const Tensor d_embedded = gather_tokens(ctx.mesh.tp(), ctx.scratch, d);
  embedding_backward(ctx.stream, batch.tokens, d_embedded, vocabulary_part(ctx), grads.embed_tokens);
  if (ctx.hooks) ctx.hooks->after_backward(stages.embedding());
}

void Transformer::evaluate(StepContext& ctx, const ModelTensors& p, const TokenBatch& batch, StepSums& sums,
                           TransformerSaved& saved, Tensor losses) const {
  const ArenaScope kept(ctx.kept), saved_scope(ctx.saved);
  const LossScale scale{1, batch.tokens.dim(0) * ctx.mesh.shape().dp, 1};
  forward(ctx, p, batch, scale, sums, saved);
  head_loss(ctx, saved.normed, p.head(), batch.targets, 0, losses, {}, {});
}

VocabularyPart Transformer::vocabulary_part(const StepContext& ctx) const {
  return {ctx.mesh.place().tp * (config_.vocab_size() / ctx.mesh.shape().tp), config_.vocab_size()};
}

void Transformer::scale_hidden(StepContext& ctx, Tensor x) const { scale(ctx.stream, x, logit_scale_); }

StepLosses step_losses(const ModelConfig& config, const LossScale& scale, const StepSums& sums) {
  StepLosses losses;
  losses.lm_loss = *sums.lm_loss.as<double>() * scale.per_target();
  losses.loss = losses.lm_loss;
  if (!config.has_moe()) return losses;
  const int64_t layers = config.num_layers();
  for (int64_t i = 0; i < layers; ++i) {
    losses.balance_loss += sums.router.as<double>()[i * 3];
    losses.z_loss += sums.router.as<double>()[i * 3 + 1];
  }
  losses.loss += config.moe().balance_coef() * losses.balance_loss + config.moe().z_coef() * losses.z_loss;
  losses.balance_loss /= static_cast<double>(layers);
  losses.z_loss /= static_cast<double>(layers);
  return losses;
}

}  // namespace sluice
