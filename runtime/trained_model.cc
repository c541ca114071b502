#include "runtime/trained_model.h"

#include "runtime/config.h"
#include "runtime/validate.h"

namespace sluice {

TrainedModel::TrainedModel(const TrainConfig& config, const Mesh& mesh, const RunData& data, Stream& s)
    : identity{config, data.tokenizer_text(), s.isa, data.state()},
      state(config.model(), config.optimizer().decay_embeddings(), compute_dtype(config.precision()), mesh.shape(),
            mesh.world().rank()),
      transformer(config.model(), config.training(), compute_dtype(config.precision()),
                  config.training().sequence_length(), state.state),
      train_step(config, transformer, state, mesh, s),
      batches(config.training(), config.data().prefetch(), data.training(), mesh) {}

}  // namespace sluice
