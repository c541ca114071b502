#include "parallel/mesh.h"

#include <cstdio>

namespace sluice {

MeshPlace MeshShape::place(int rank) const {
  MeshPlace at;
  at.dp = rank / tp;
  at.tp = rank % tp;
  at.edp = rank / (ep * etp);
  at.ep = rank / etp % ep;
  at.etp = rank % etp;
  return at;
}

int MeshShape::replicas(Replicas kind) const {
  switch (kind) {
    case Replicas::kWorld:
      return world();
    case Replicas::kDp:
      return dp;
    case Replicas::kKeyValue:
      return dp * kv_copies;
    case Replicas::kEdp:
      return edp();
  }
  return 1;
}

int MeshShape::replica(Replicas kind, int rank) const {
  const MeshPlace at = place(rank);
  switch (kind) {
    case Replicas::kWorld:
      return rank;
    case Replicas::kDp:
      return at.dp;
    case Replicas::kKeyValue:
      return at.dp * kv_copies + at.tp % kv_copies;
    case Replicas::kEdp:
      return at.edp;
  }
  return 0;
}

std::string mesh_table(const MeshShape& shape) {
  std::string table = "rank   dp   tp  edp   ep  etp\n";
  for (int rank = 0; rank < shape.world(); ++rank) {
    const MeshPlace at = shape.place(rank);
    char line[96];
    std::snprintf(line, sizeof line, "%4d %4d %4d %4d %4d %4d\n", rank, at.dp, at.tp, at.edp, at.ep, at.etp);
    table += line;
  }
  return table;
}

Mesh::Mesh(const MeshShape& shape, ProcessGroup& world)
    : shape_(shape), place_(shape.place(world.rank())), world_(world) {
  INVARIANT(shape.world() == world.size() && shape.edp() * shape.ep * shape.etp == world.size() &&
                shape.tp % shape.kv_copies == 0,
            "mesh of dp=", shape.dp, " x tp=", shape.tp, ", ep=", shape.ep, " x etp=", shape.etp, " over ",
            world.size(), " ranks");
  tp_ = world.split([&](int rank) { return shape.place(rank).dp; }, "tp");
  dp_ = world.split([&](int rank) { return shape.place(rank).tp; }, "dp");
  kv_ = world.split([&](int rank) { return shape.place(rank).tp / shape.kv_copies; }, "key-value copies");
  experts_ = world.split([&](int rank) { return shape.place(rank).edp; }, "experts");
  edp_ = world.split([&](int rank) { return rank % (shape.ep * shape.etp); }, "edp");
}

void Mesh::observe(GroupObserver* observer) const {
  for (ProcessGroup* group : groups()) group->observe(observer);
}

ProcessGroup& Mesh::replicas(Replicas kind) const {
  switch (kind) {
    case Replicas::kWorld:
      return world_;
    case Replicas::kDp:
      return *dp_;
    case Replicas::kKeyValue:
      return *kv_;
    case Replicas::kEdp:
      return *edp_;
  }
  return world_;
}

}  // namespace sluice
