#include "runtime/model_state.h"

#include <algorithm>
#include <sys/resource.h>
#include <unistd.h>

namespace sluice {

int64_t physical_memory_bytes() {
  const int64_t physical = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  // A run has ten arenas, and needs address space for its files and threads too.
  constexpr int64_t kShares = 16;
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return physical;
  return std::min(physical, static_cast<int64_t>(limit.rlim_cur / kShares));
}

DType compute_dtype(TrainConfig::Precision precision) {
  if (precision == TrainConfig::BF16) return DType::kBF16;
  return precision == TrainConfig::F64 ? DType::kF64 : DType::kF32;
}

ModelState::ModelState(const ModelConfig& config, bool decay_embeddings, DType dtype, const MeshShape& mesh, int rank,
                       MemorySource source)
    : records(parameter_records(config, decay_embeddings, mesh, rank)),
      layout(records, mesh),
      state("state", source, physical_memory_bytes()),
      numbers("numbers", MemorySource::kPages, physical_memory_bytes()),
      weights(state.alloc("weights", dtype, {layout.count()})),
      weight_tensors(bind_parameters(config, records, weights)) {}

}  // namespace sluice
