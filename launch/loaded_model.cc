#include "launch/loaded_model.h"

#include <glog/logging.h>
#include <google/protobuf/util/message_differencer.h>

#include "parallel/agree.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/config.h"
#include "runtime/initial_weights.h"
#include "runtime/saved_tokenizer.h"
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

/// Says when overrides make another model of the weights than was trained. Longer texts are what RoPE is changed for.
void warn_of_changes(ModelConfig trained, ModelConfig model) {
  for (ModelConfig* config : {&trained, &model}) {
    config->clear_yarn();
    config->clear_rope_theta();
  }
  if (google::protobuf::util::MessageDifferencer::Equivalent(trained, model)) return;
  LOG(WARNING) << "--set changes the model; it was trained as " << trained.ShortDebugString();
}

}  // namespace

LoadedModel::LoadedModel(const std::string& step_dir, Session& session, const std::vector<std::string>& overrides)
    : mesh_({session.world().size()}, session.world()) {
  agree(session.world(), [&] {
    CheckpointReader reader(step_dir);
    const std::string origin = step_dir + "/manifest.textproto: config";
    trained_config_ = parse_config(reader.manifest().config(), origin);
    trained_config_.mutable_cpu()->set_isa(isa_here(trained_config_.cpu().isa()));
    trained_config_.mutable_cpu()->set_threads(session.cores_per_rank());
    config_ = parse_config(config_text(trained_config_), origin, overrides);
    check_heads(trained_config_.model(), config_.model(), step_dir);
    if (session.world().rank() == 0) warn_of_changes(trained_config_.model(), config_.model());
    validate_training(config_, static_cast<int>(reader.manifest().world_size()));
    check_width(trained_config_.model(), config_.model(), step_dir);
    tokenizer_ = saved_tokenizer(step_dir, reader.manifest(), config_);
    compute_ = std::make_unique<Compute>(config_.cpu());
    model_ = std::make_unique<ModelState>(config_.model(), true, compute_dtype(config_.precision()));
    reader.check_parameters(model_->records);
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
