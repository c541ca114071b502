#pragma once

#include <string>
#include <vector>

#include "runtime/verify/evidence.h"

namespace sluice {

/// What was compared between a layout and one rank.
struct Comparison {
  std::string name;
  std::string after;  ///< the collective call before it in the layout's run; empty where there is none to tell
  double error = 0;   ///< L2 of the difference, relative to one rank's; 0 where equal
  double limit = 0;   ///< largest error that rounding explains; 0: must be equal
  bool equal = true;
};

/// Whether a layout computes what one rank computes. Comparisons are in the order in which a step makes the tensors:
/// the residual stream forward and back, losses, counts, gradients, norm and clip factor, parameters.
struct Certificate {
  std::vector<Comparison> comparisons;

  bool equal() const { return first_difference() == nullptr; }
  const Comparison* first_difference() const;
};

/// The same training on one rank: the loss is defined by micro_step_sequences and the number of micro-steps, so that
/// one rank computes the samples of all dp ranks at a time, or, when expert shares are counted over groups of samples,
/// one group after another.
TrainConfig one_rank_config(const TrainConfig& config);

/// Compares by the rule for f64: a gradient's difference is at most 1e-12 of its norm and 1e-15 of the global norm,
/// anything else's at most 1e-12; counts are equal.
Certificate compare(const Evidence& layout, const Evidence& one_rank);

/// Trains a validated configuration, by default for three steps, in f64 on this layout and, on rank 0, on one rank, and
/// compares. Rank 0 returns the certificate, the others one without comparisons. Every rank of `world` calls it.
Certificate verify_layout(const TrainConfig& config, ProcessGroup& world, Stream& s,
                          const EvidenceOptions& options = {});

}  // namespace sluice
