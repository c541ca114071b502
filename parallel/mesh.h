#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/process_group.h"

namespace sluice {

/// Which ranks hold equal copies of a parameter. Each of them has a part of its gradient: their sum is the gradient,
/// and whatever must count or keep a parameter once divides it among them.
enum class Replicas {
  kWorld,     ///< all ranks: norms and router
  kDp,        ///< ranks of the same tp index: what tensor parallelism splits
  kKeyValue,  ///< as kDp, and those that copy a key-value head because tp exceeds their number
  kEdp,       ///< ranks with the same experts
};
inline constexpr int kReplicaKinds = 4;

/// Where a rank stands along each axis.
struct MeshPlace {
  int dp = 0, tp = 0;
  int edp = 0, ep = 0, etp = 0;
};

/// Sizes of the axes. The same ranks are folded twice: dense layers are dp x tp, expert layers edp x ep x etp; the last
/// axis is the fastest. Pipeline stages would come in front of both, context parallelism between dp and tp.
struct MeshShape {
  int dp = 1, tp = 1;
  int ep = 1, etp = 1;
  int kv_copies = 1;  ///< ranks of a tp group that hold the same key-value head

  int world() const { return dp * tp; }
  int edp() const { return world() / (ep * etp); }
  MeshPlace place(int rank) const;
  /// Ranks that hold equal copies, and which of them `rank` is; as the group Mesh::replicas has them.
  int replicas(Replicas kind) const;
  int replica(Replicas kind, int rank) const;
};

/// One line a rank: where it stands in both foldings.
std::string mesh_table(const MeshShape& shape);

/// The groups that a rank communicates in, all built when the mesh is.
class Mesh {
 public:
  /// Splits `world`, which must outlive the mesh. Every rank calls it. Throws Error when the sizes do not fit.
  Mesh(const MeshShape& shape, ProcessGroup& world);
  ~Mesh() { observe(nullptr); }
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  const MeshShape& shape() const { return shape_; }
  const MeshPlace& place() const { return place_; }

  ProcessGroup& world() const { return world_; }
  ProcessGroup& tp() const { return *tp_; }            ///< same samples, other heads and columns
  ProcessGroup& dp() const { return *dp_; }            ///< other samples, same parts of the dense layers
  ProcessGroup& experts() const { return *experts_; }  ///< ep x etp, etp the fastest: all experts once
  ProcessGroup& edp() const { return *edp_; }          ///< other tokens, same experts
  /// The ranks that hold equal copies of a parameter.
  ProcessGroup& replicas(Replicas kind) const;

  /// All of them, in the same order on every rank.
  std::vector<ProcessGroup*> groups() const {
    return {&world_, tp_.get(), dp_.get(), kv_.get(), experts_.get(), edp_.get()};
  }

  /// Shows the calls in all groups to `observer`, which must outlive the mesh; null: to nobody.
  void observe(GroupObserver* observer) const;

 private:
  MeshShape shape_;
  MeshPlace place_;
  ProcessGroup& world_;
  std::unique_ptr<ProcessGroup> tp_, dp_, kv_, experts_, edp_;
};

}  // namespace sluice
