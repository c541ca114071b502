#include "parallel/expert_exchange.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"

namespace sluice {
namespace {

std::span<RowRun> alloc_runs(Arena& arena, const char* name, int64_t n) {
  static_assert(sizeof(RowRun) % sizeof(int64_t) == 0);
  constexpr int64_t kWords = sizeof(RowRun) / sizeof(int64_t);
  return {static_cast<RowRun*>(arena.alloc(name, DType::kI64, {n * kWords}).data), static_cast<size_t>(n)};
}

/// Overlap of [begin, begin + count) with [from, to).
int64_t overlap(int64_t begin, int64_t count, int64_t from, int64_t to) {
  return std::max<int64_t>(0, std::min(begin + count, to) - std::max(begin, from));
}

}  // namespace

void ExpertExchange::plan(const Mesh& mesh, Arena& kept, Tensor counts, double budget) {
  mesh_ = &mesh;
  ProcessGroup& group = mesh.experts();
  const MeshShape& shape = mesh.shape();
  experts_ = counts.count();
  local_experts_ = experts_ / shape.ep;
  all_counts_ = kept.alloc("all_expert_counts", DType::kI64, {group.size(), experts_});
  group.all_gather(counts, all_counts_.reshaped({all_counts_.count()})).wait();

  int64_t most_sent = 0, most_received = 0;
  for (int64_t sender = 0; sender < group.size(); ++sender) {
    int64_t sent = 0;
    for (int64_t e = 0; e < experts_; ++e) sent += count(sender, e);
    most_sent = std::max(most_sent, sent);
  }
  for (int64_t ep = 0; ep < shape.ep; ++ep) most_received = std::max(most_received, received(ep));
  const double even_share = static_cast<double>(most_sent) * shape.etp;
  rows_at_a_time_ = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(budget * even_share)));
  // A pass without rows still runs: every rank makes the same calls.
  passes_ = std::max<int64_t>(1, (most_received + rows_at_a_time_ - 1) / rows_at_a_time_);
}

int64_t ExpertExchange::received(int64_t ep) const {
  int64_t rows = 0;
  for (int64_t sender = 0; sender < mesh_->experts().size(); ++sender) {
    for (int64_t e = 0; e < local_experts_; ++e) rows += count(sender, ep * local_experts_ + e);
  }
  return rows;
}

int64_t ExpertExchange::rows(int64_t pass) const {
  return overlap(0, received(mesh_->place().ep), pass * rows_at_a_time_, (pass + 1) * rows_at_a_time_);
}

ExpertExchange::Share ExpertExchange::share(int64_t ep, int64_t sender, int64_t pass) const {
  const int64_t from = pass * rows_at_a_time_, to = from + rows_at_a_time_;
  Share share;
  int64_t begin = 0;
  for (int64_t e = 0; e < local_experts_; ++e) {
    for (int64_t other = 0; other < mesh_->experts().size(); ++other) {
      const int64_t rows = count(other, ep * local_experts_ + e);
      if (other == sender) {
        share.before += overlap(begin, rows, 0, from);
        share.in += overlap(begin, rows, from, to);
      }
      begin += rows;
    }
  }
  return share;
}

int64_t ExpertExchange::first_row_of_rank(int64_t ep) const {
  const int64_t me = mesh_->experts().rank();
  int64_t first = 0;
  for (int64_t e = 0; e < ep * local_experts_; ++e) first += count(me, e);
  return first;
}

ExpertExchange::Pass ExpertExchange::pass(Arena& arena, int64_t index) const {
  const ProcessGroup& group = mesh_->experts();
  const int etp = mesh_->shape().etp;
  Pass pass;
  pass.rows = rows(index);
  const std::span<RowRun> sent = alloc_runs(arena, "sent_runs", group.size());
  for (int rank = 0; rank < group.size(); ++rank) {
    const Share to = share(rank / etp, group.rank(), index);
    sent[static_cast<size_t>(rank)] = {rank, first_row_of_rank(rank / etp) + to.before, to.in};
  }
  pass.sent = sent;
  fill_received(pass, arena, index);
  return pass;
}

void ExpertExchange::fill_received(Pass& pass, Arena& arena, int64_t index) const {
  const int64_t ranks = mesh_->experts().size(), first_expert = mesh_->place().ep * local_experts_;
  const int64_t from = index * rows_at_a_time_, to = from + rows_at_a_time_;
  pass.offsets = arena.alloc("expert_offsets", DType::kI64, {local_experts_ + 1});
  const std::span<RowRun> received = alloc_runs(arena, "received_runs", local_experts_ * ranks);
  int64_t begin = 0, row = 0;
  for (int64_t e = 0; e < local_experts_; ++e) {
    pass.offsets.as<int64_t>()[e] = row;
    for (int64_t sender = 0; sender < ranks; ++sender) {
      const int64_t rows = count(sender, first_expert + e), taken = overlap(begin, rows, from, to);
      received[static_cast<size_t>(e * ranks + sender)] = {sender, row, taken};
      row += taken;
      begin += rows;
    }
  }
  pass.offsets.as<int64_t>()[local_experts_] = row;
  pass.received = received;
}

Tensor ExpertExchange::dispatch(Arena& arena, const Pass& pass, Tensor sorted, Site site) const {
  if (local()) return sorted.rows(pass.sent[0].begin, pass.rows);
  const Tensor rows = arena.alloc("dispatched_rows", sorted.dtype, {pass.rows, sorted.dim(1)});
  mesh_->experts().all_to_all(sorted, pass.sent, rows, pass.received, site).wait();
  return rows;
}

Tensor ExpertExchange::results(Arena& arena, const Pass& pass, Tensor returned) const {
  if (local()) return returned.rows(pass.sent[0].begin, pass.rows);
  return arena.alloc("expert_results", returned.dtype, {pass.rows, returned.dim(1)});
}

void ExpertExchange::combine(Stream& s, Arena& scratch, const Pass& pass, Tensor rows, Tensor returned,
                             Site site) const {
  if (local()) return;
  ProcessGroup& group = mesh_->experts();
  if (mesh_->shape().etp == 1) {
    group.all_to_all(rows, pass.received, returned, pass.sent, site).wait();
    return;
  }
  // A term from every rank that shares an expert, back to back.
  const ArenaScope scope(scratch);
  const std::span<RowRun> arriving = alloc_runs(scratch, "arriving_runs", group.size());
  int64_t all = 0;
  for (size_t r = 0; r < arriving.size(); ++r) {
    arriving[r] = {pass.sent[r].rank, all, pass.sent[r].rows};
    all += pass.sent[r].rows;
  }
  const Tensor terms = scratch.alloc("returned_terms", rows.dtype, {all, returned.dim(1)});
  group.all_to_all(rows, pass.received, terms, arriving, site).wait();
  for (size_t r = 0; r < arriving.size(); ++r) {
    if (arriving[r].rows == 0) continue;
    const Tensor term = terms.rows(arriving[r].begin, arriving[r].rows);
    const Tensor place = returned.rows(pass.sent[r].begin, pass.sent[r].rows);
    const bool first = r % static_cast<size_t>(mesh_->shape().etp) == 0;
    if (first) {
      cast(s, term, place);
    } else {
      add(s, place, term, place);
    }
  }
}

}  // namespace sluice
