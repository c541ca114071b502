#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/process_group.h"
#include "parallel/watch/rank_state.pb.h"

namespace sluice {

/// TCP between the first ranks of the nodes and rank 0, beside MPI, so that it still speaks when MPI hangs. Nodes
/// report to rank 0; rank 0 answers that it is there. Addresses and a secret that opens the door go through MPI at the
/// start. Afterwards one thread uses it.
class NodeLink {
 public:
  enum class Role {
    kHub,    ///< rank 0
    kSpoke,  ///< first rank of another node
    kBystander,
  };

  /// Every rank of `world` calls it. Connections are made in the background.
  NodeLink(ProcessGroup& world, Role role);
  ~NodeLink();

  /// A spoke's report to the hub: the ranks of its node, its own first. Never waits.
  void report(const std::vector<RankState>& states);
  /// Reports that have come since the last call. The hub sends `answer`, the ranks of its own node, for each.
  std::vector<NodeReport> receive(const std::vector<RankState>& answer);

 private:
  struct Sockets;
  static std::string packed(const std::vector<RankState>& states);
  const Role role_;
  std::unique_ptr<Sockets> sockets_;
};

}  // namespace sluice
