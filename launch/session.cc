#include "launch/session.h"

#include <cstdlib>

#include "kernels/gemm_self_check.h"
#include "parallel/mpi_session.h"
#include "parallel/thread_group.h"

namespace sluice {
namespace {

bool started_by_launcher() { return std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PMIX_RANK"); }

}  // namespace

Session::Session() {
  if (started_by_launcher()) {
    mpi_ = std::make_unique<MpiSession>();
    world_ = make_mpi_world();
  } else {
    world_ = std::move(make_thread_groups(1).front());
  }
}

Session::~Session() = default;

Compute::Compute(const CpuConfig& config) : pool_(static_cast<int>(config.threads())) {
  stream_.isa = parse_isa(config.isa());
  stream_.pool = &pool_;
  gemm_self_check(stream_);
}

}  // namespace sluice
