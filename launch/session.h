#pragma once

#include <memory>
#include <string>

#include "configs/train.pb.h"
#include "kernels/core/stream.h"
#include "parallel/process_group.h"

namespace sluice {

class MpiSession;

/// The ranks of this program. Started by mpirun or srun they are MPI's; otherwise the one rank needs no MPI at all,
/// which starts a quarter of a second sooner.
class Session {
 public:
  Session();
  ~Session();
  ProcessGroup& world() { return *world_; }
  /// From here on ranks may die without ending the job: fatal() ends this one alone, and the session's end waits for
  /// nobody.
  void outlive_others();
  /// Of this job.
  int ranks_on_node() const;
  /// Cores that this rank need not share with others of its node; at least 1.
  int cores_per_rank() const;

 private:
  std::unique_ptr<MpiSession> mpi_;
  std::unique_ptr<ProcessGroup> world_;
  bool outlives_others_ = false;
};

/// The threads and instruction set of a rank, checked against a scalar product.
class Compute {
 public:
  /// Throws Error on an unknown or unsupported instruction set, or when the machine multiplies wrongly.
  explicit Compute(const CpuConfig& config);
  Stream& stream() { return stream_; }

 private:
  ThreadPool pool_;
  Stream stream_;
};

}  // namespace sluice
