#include "parallel/expert_exchange.h"

#include <gtest/gtest.h>

#include "kernels/core/philox.h"
#include "parallel/thread_group.h"

namespace sluice {
namespace {

constexpr int64_t kExperts = 8, kWidth = 3;

struct Case {
  int ep, etp;
  double budget;
  bool one_expert;  ///< all rows go to expert 5
};

/// How many rows `rank` sends to an expert; rank 1 sends none at all.
int64_t rows_to(const Case& c, int rank, int64_t expert) {
  if (rank == 1) return 0;
  if (c.one_expert) return expert == 5 ? 11 : 0;
  return static_cast<int64_t>(Philox(3, "rows").uniform(static_cast<uint64_t>(rank * kExperts + expert)) * 7);
}

/// A number that tells a row of a rank for an expert from all others.
double row_value(int rank, int64_t expert, int64_t row) {
  return rank * 10000 + static_cast<double>(expert) * 100 + static_cast<double>(row);
}

/// Dispatches a rank's rows, checks the order in which its experts see them, doubles them and combines.
void round_trip(const Case& c, ProcessGroup& world) {
  const Mesh mesh({c.ep * c.etp, 1, c.ep, c.etp}, world);
  ThreadPool pool(1);
  Stream s{Device::kCpu, best_isa(), &pool};
  Arena kept("kept", MemorySource::kHugePages, 1 << 20), scratch("scratch", MemorySource::kHugePages, 1 << 20);
  const Tensor counts = kept.alloc("counts", DType::kI64, {kExperts});
  std::vector<double> values;
  for (int64_t e = 0; e < kExperts; ++e) {
    counts.as<int64_t>()[e] = rows_to(c, world.rank(), e);
    for (int64_t row = 0; row < rows_to(c, world.rank(), e); ++row) {
      values.insert(values.end(), kWidth, row_value(world.rank(), e, row));
    }
  }
  const int64_t sent = static_cast<int64_t>(values.size()) / kWidth;
  const Tensor sorted{values.data(), DType::kF64, Device::kCpu, {sent, kWidth}};
  std::vector<double> back(values.size(), -1);
  const Tensor returned{back.data(), DType::kF64, Device::kCpu, {sent, kWidth}};

  ExpertExchange exchange;
  exchange.plan(mesh, kept, counts, c.budget);
  std::vector<double> seen;
  for (int64_t i = 0; i < exchange.passes(); ++i) {
    const ArenaScope scope(scratch);
    const ExpertExchange::Pass pass = exchange.pass(scratch, i);
    const Tensor rows = exchange.dispatch(scratch, pass, sorted);
    const Tensor results = exchange.results(scratch, pass, returned);
    for (int64_t r = 0; r < pass.rows; ++r) seen.push_back(rows.as<double>()[r * kWidth]);
    for (int64_t j = 0; j < rows.count(); ++j) results.as<double>()[j] = 2 * rows.as<double>()[j];
    exchange.combine(s, scratch, pass, results, returned);
  }
  std::vector<double> want;
  const int64_t local = kExperts / c.ep;
  for (int64_t e = mesh.place().ep * local; e < (mesh.place().ep + 1) * local; ++e) {
    for (int rank = 0; rank < world.size(); ++rank) {
      for (int64_t row = 0; row < rows_to(c, rank, e); ++row) want.push_back(row_value(rank, e, row));
    }
  }
  EXPECT_EQ(seen, want) << "order at the experts of rank " << world.rank();
  // Each of the etp ranks that share an expert returned a term.
  for (size_t i = 0; i < back.size(); ++i) EXPECT_EQ(back[i], 2 * c.etp * values[i]);
}

TEST(ExpertExchange, RoundTripInAThreadGroupRestoresTokenOrder) {
  for (const auto& [ep, etp] : {std::pair{1, 1}, {2, 1}, {1, 2}, {4, 1}, {2, 2}, {4, 2}, {8, 1}}) {
    for (const double budget : {100.0, 1.0, 0.1}) {
      for (const bool one_expert : {false, true}) {
        SCOPED_TRACE(concat("ep ", ep, ", etp ", etp, ", budget ", budget, one_expert ? ", one expert" : ""));
        run_ranks(ep * etp, [&](ProcessGroup& world) { round_trip({ep, etp, budget, one_expert}, world); });
      }
    }
  }
}

}  // namespace
}  // namespace sluice
