#include "launch/loaded_model.h"

#include <filesystem>

#include "parallel/agree.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/config.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

/// What the run was trained with where this processor has it, else the best that it has.
std::string isa_here(const std::string& trained_with) {
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (trained_with == isa_name(isa) && !isa_supported(isa)) return "auto";
  }
  return trained_with;
}

}  // namespace

LoadedModel::LoadedModel(const std::string& step_dir, ProcessGroup& world) {
  agree(world, [&] {
    CheckpointReader reader(step_dir);
    config_ = parse_config(reader.manifest().config(), step_dir + "/manifest.textproto: config");
    validate_model(config_.model());
    config_.mutable_cpu()->set_isa(isa_here(config_.cpu().isa()));
    const std::string tokenizer_file = step_dir + "/tokenizer.json";
    if (std::filesystem::exists(tokenizer_file)) tokenizer_.emplace(load_tokenizer(tokenizer_file));
    compute_ = std::make_unique<Compute>(config_.cpu());
    model_ = std::make_unique<ModelState>(config_.model(), true, compute_dtype(config_.precision()),
                                          ModelState::Use::kInference, compute_->stream());
    for (const ParameterRecord& record : model_->records) reader.read(record, Piece::MASTER, model_->weights);
  });
}

const Tokenizer& LoadedModel::tokenizer() const {
  ENSURE(tokenizer_, "the checkpoint holds no tokenizer.json: set data.tokenizer when training");
  return *tokenizer_;
}

Transformer LoadedModel::make_transformer(int64_t max_positions) {
  return Transformer(config_.model(), {}, model_->weights.dtype, max_positions, model_->state);
}

}  // namespace sluice
