#include "launch/session.h"

#include <algorithm>
#include <cstdlib>
#include <sched.h>
#include <thread>

#include <glog/logging.h>

#include "kernels/gemm_self_check.h"
#include "parallel/mpi_session.h"
#include "parallel/thread_group.h"

namespace sluice {
namespace {

bool started_by_launcher() { return std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PMIX_RANK"); }

/// Cores that the launcher and the system leave to this process.
int usable_cores() {
  cpu_set_t cores;
  return sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : CPU_SETSIZE;
}

}  // namespace

Session::Session() {
  if (started_by_launcher()) {
    mpi_ = std::make_unique<MpiSession>();
    world_ = make_mpi_world();
  } else {
    world_ = std::move(make_thread_groups(1).front());
  }
  // What concerns all ranks is said once.
  if (world_->rank() > 0) FLAGS_minloglevel = google::GLOG_ERROR;
}

void Session::outlive_others() {
  if (!mpi_) return;
  fail_alone();
  outlives_others_ = true;
}

Session::~Session() {
  if (!outlives_others_) return;
  // What the ranks share can be given up together only.
  static_cast<void>(world_.release());
  end_without_mpi();
}

int Session::ranks_on_node() const { return std::max(1, ranks_on_this_node()); }

int Session::cores_per_rank() const {
  const int node_cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, std::min(usable_cores(), node_cores / ranks_on_node()));
}

Compute::Compute(const CpuConfig& config) : pool_(static_cast<int>(config.threads())) {
  stream_.isa = parse_isa(config.isa());
  stream_.pool = &pool_;
  if (const int cores = usable_cores(); cores < pool_.threads()) {
    LOG(WARNING) << "cpu.threads=" << pool_.threads() << ", but a rank may use " << cores
                 << " core(s): start with mpirun --bind-to none, or --map-by slot:pe=" << pool_.threads();
  }
  gemm_self_check(stream_);
}

}  // namespace sluice
