#include "parallel/expert_exchange.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/elementwise.h"
#include "kernels/permute.h"

namespace sluice {
namespace {

std::span<int64_t> alloc_counts(Arena& arena, const char* name, int64_t n) {
  return {arena.alloc(name, DType::kI64, {n}).as<int64_t>(), static_cast<size_t>(n)};
}

int64_t sum(std::span<const int64_t> values) { return std::accumulate(values.begin(), values.end(), int64_t{0}); }

/// Visits the rows of every destination: visit(rank, their part of `packed`, their place in `sorted`).
template <class Visit>
void for_each_destination(const ExpertExchange::Pass& pass, const Visit& visit, Tensor packed, Tensor sorted) {
  int64_t at = 0;
  for (size_t rank = 0; rank < pass.send_rows.size(); ++rank) {
    const int64_t n = pass.send_rows[rank];
    if (n > 0) visit(rank, packed.rows(at, n), sorted.rows(pass.send_begin[rank], n));
    at += n;
  }
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
  const MeshShape& shape = mesh_->shape();
  Pass pass;
  pass.rows = rows(index);
  pass.send_begin = alloc_counts(arena, "send_begin", group.size());
  pass.send_rows = alloc_counts(arena, "send_rows", group.size());
  pass.receive_rows = alloc_counts(arena, "receive_rows", group.size());
  for (int rank = 0; rank < group.size(); ++rank) {
    const size_t r = static_cast<size_t>(rank);
    const Share to = share(rank / shape.etp, group.rank(), index);
    pass.send_begin[r] = first_row_of_rank(rank / shape.etp) + to.before;
    pass.send_rows[r] = to.in;
    pass.receive_rows[r] = share(mesh_->place().ep, rank, index).in;
  }
  fill_order(pass, arena, index);
  return pass;
}

void ExpertExchange::fill_order(Pass& pass, Arena& arena, int64_t index) const {
  const int64_t ranks = mesh_->experts().size(), first_expert = mesh_->place().ep * local_experts_;
  const int64_t from = index * rows_at_a_time_, to = from + rows_at_a_time_;
  pass.offsets = arena.alloc("expert_offsets", DType::kI64, {local_experts_ + 1});
  pass.to_expert_order = arena.alloc("to_expert_order", DType::kI32, {pass.rows});
  pass.to_arrival_order = arena.alloc("to_arrival_order", DType::kI32, {pass.rows});
  // Rows of a sender arrive together, in expert order.
  const std::span<int64_t> arrival = alloc_counts(arena, "arrival", ranks);
  for (size_t r = 0, next = 0; r < arrival.size(); ++r) {
    arrival[r] = static_cast<int64_t>(next);
    next += static_cast<size_t>(pass.receive_rows[r]);
  }
  int64_t begin = 0, row = 0;
  for (int64_t e = 0; e < local_experts_; ++e) {
    pass.offsets.as<int64_t>()[e] = row;
    for (int64_t sender = 0; sender < ranks; ++sender) {
      const int64_t rows = count(sender, first_expert + e), taken = overlap(begin, rows, from, to);
      int64_t& at = arrival[static_cast<size_t>(sender)];
      for (int64_t i = 0; i < taken; ++i, ++at, ++row) {
        pass.to_expert_order.as<int32_t>()[row] = static_cast<int32_t>(at);
        pass.to_arrival_order.as<int32_t>()[at] = static_cast<int32_t>(row);
      }
      begin += rows;
    }
  }
  pass.offsets.as<int64_t>()[local_experts_] = row;
}

Tensor ExpertExchange::dispatch(Stream& s, Arena& rows_arena, Arena& scratch, const Pass& pass, Tensor sorted,
                                Site site) const {
  if (local()) return sorted.rows(pass.send_begin[0], pass.rows);
  const Tensor rows = rows_arena.alloc("dispatched_rows", sorted.dtype, {pass.rows, sorted.dim(1)});
  const ArenaScope scope(scratch);
  const Tensor arrived = scratch.alloc("arrived_rows", sorted.dtype, rows.shape);
  Tensor send = sorted;
  if (!sent_in_order()) {
    send = scratch.alloc("rows_to_send", sorted.dtype, {sum(pass.send_rows), sorted.dim(1)});
    for_each_destination(
        pass, [&](size_t, Tensor part, Tensor place) { cast(s, place, part); }, send, sorted);
  }
  mesh_->experts().all_to_all(send, pass.send_rows, arrived, pass.receive_rows, site).wait();
  gather_rows(s, arrived, pass.to_expert_order, 1, rows);
  return rows;
}

Tensor ExpertExchange::results(Arena& arena, const Pass& pass, Tensor returned) const {
  if (local()) return returned.rows(pass.send_begin[0], pass.rows);
  return arena.alloc("expert_results", returned.dtype, {pass.rows, returned.dim(1)});
}

void ExpertExchange::combine(Stream& s, Arena& scratch, const Pass& pass, Tensor rows, Tensor returned,
                             Site site) const {
  if (local()) return;
  const ArenaScope scope(scratch);
  const Tensor ordered = scratch.alloc("rows_to_return", rows.dtype, rows.shape);
  gather_rows(s, rows, pass.to_arrival_order, 1, ordered);
  if (sent_in_order()) {
    mesh_->experts().all_to_all(ordered, pass.receive_rows, returned, pass.send_rows, site).wait();
    return;
  }
  const Tensor arrived = scratch.alloc("returned_rows", rows.dtype, {sum(pass.send_rows), returned.dim(1)});
  mesh_->experts().all_to_all(ordered, pass.receive_rows, arrived, pass.send_rows, site).wait();
  const auto take = [&](size_t rank, Tensor term, Tensor place) {
    const bool first = rank % static_cast<size_t>(mesh_->shape().etp) == 0;
    if (first) {
      cast(s, term, place);
    } else {
      add(s, place, term, place);
    }
  };
  for_each_destination(pass, take, arrived, returned);
}

}  // namespace sluice
