#include "runtime/model_state.h"

#include <unistd.h>

#include "kernels/elementwise.h"

namespace sluice {

int64_t physical_memory_bytes() { return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE); }

DType compute_dtype(TrainConfig::Precision precision) {
  return precision == TrainConfig::F64 ? DType::kF64 : DType::kF32;
}

ModelState::ModelState(const ModelConfig& config, bool decay_embeddings, DType dtype, Use use, Stream& s)
    : records(parameter_records(config, decay_embeddings)),
      state("state", MemorySource::kHugePages, physical_memory_bytes()),
      gradient_arena("gradients", MemorySource::kHugePages, physical_memory_bytes()) {
  const Shape flat{flat_count(records)};
  weights = state.alloc("weights", dtype, flat);
  weight_tensors = bind_parameters(config, records, weights);
  if (use == Use::kInference) return;
  gradients = gradient_arena.alloc("gradients", dtype, flat);
  gradient_tensors = bind_parameters(config, records, gradients);
  m = state.alloc("first_moments", dtype, flat);
  v = state.alloc("second_moments", dtype, flat);
  fill_zero(s, m);
  fill_zero(s, v);
}

}  // namespace sluice
