#include "runtime/model_state.h"

#include <unistd.h>

namespace sluice {

int64_t physical_memory_bytes() { return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE); }

DType compute_dtype(TrainConfig::Precision precision) {
  return precision == TrainConfig::F64 ? DType::kF64 : DType::kF32;
}

ModelState::ModelState(const ModelConfig& config, bool decay_embeddings, DType dtype, const MeshShape& mesh, int rank)
    : records(parameter_records(config, decay_embeddings, mesh, rank)),
      layout(records, mesh),
      state("state", MemorySource::kHugePages, physical_memory_bytes()),
      weights(state.alloc("weights", dtype, {layout.count()})),
      weight_tensors(bind_parameters(config, records, weights)) {}

}  // namespace sluice
