#include "parallel/mpi_channels.h"

#include <new>
#include <thread>
#include <vector>

#include "kernels/core/error.h"
#include "parallel/mpi_node_memory.h"
#include "parallel/spin_wait.h"

namespace sluice {
namespace {

// Two slots of a pair fit the second-level cache beside what is copied.
constexpr int64_t kSlotBytes = int64_t{64} << 10;
constexpr uint64_t kSlots = 2;

}  // namespace

struct MpiChannels::Channel {
  alignas(64) std::atomic<uint64_t> filled;   ///< slots, by the sender
  alignas(64) std::atomic<uint64_t> emptied;  ///< slots, by the receiver
  alignas(64) int64_t total;                  ///< bytes of the call that begins with the next slot
  alignas(64) char slots[kSlots][kSlotBytes];
};

MpiChannels::MpiChannels(MPI_Comm comm, int rank, int size, MpiTransport transport) : rank_(rank), size_(size) {
  memory_ = make_mpi_node_memory(comm, rank, static_cast<int64_t>(sizeof(Channel)) * size, transport);
  INVARIANT(static_cast<int>(memory_->ranks().size()) == size, "channels between nodes");
  crowded_ = ranks_on_this_node() > static_cast<int>(std::thread::hardware_concurrency());
}

MpiChannels::~MpiChannels() = default;

MpiChannels::Channel& MpiChannels::channel(int from, int to) const {
  return static_cast<Channel*>(memory_->part(static_cast<size_t>(to)))[from];
}

bool MpiChannels::send_some(Way& way) {
  Channel& channel = this->channel(rank_, way.rank);
  const uint64_t filled = channel.filled.load(std::memory_order_relaxed);
  const uint64_t emptied = channel.emptied.load(std::memory_order_acquire);
  // The total is read with the first slot of a call; the call before must be through.
  if (way.begun ? filled - emptied == kSlots : filled != emptied) return false;
  if (!way.begun) channel.total = way.stream.left();
  way.begun = true;
  take(way.stream, channel.slots[filled % kSlots], std::min(way.stream.left(), kSlotBytes));
  channel.filled.store(filled + 1, std::memory_order_release);
  return true;
}

bool MpiChannels::receive_some(Way& way, const std::string& group) {
  Channel& channel = this->channel(way.rank, rank_);
  const uint64_t emptied = channel.emptied.load(std::memory_order_relaxed);
  if (channel.filled.load(std::memory_order_acquire) == emptied) return false;
  if (!way.begun) check_sent(group, way.rank, channel.total, rank_, way.stream.left());
  way.begun = true;
  put(channel.slots[emptied % kSlots], way.stream, std::min(way.stream.left(), kSlotBytes));
  channel.emptied.store(emptied + 1, std::memory_order_release);
  return true;
}

void MpiChannels::all_to_all(Tensor in, std::span<const RowRun> send, Tensor out, std::span<const RowRun> receive,
                             const std::string& group) {
  sends_.clear();
  receives_.clear();
  for (int i = 1; i < size_; ++i) {  // everybody begins with another one
    const int to = (rank_ + i) % size_, from = (rank_ + size_ - i) % size_;
    sends_.push_back({to, RowStream(in, send, to)});
    receives_.push_back({from, RowStream(out, receive, from)});
  }
  const RowStream own_in(in, send, rank_), own_out(out, receive, rank_);
  check_sent(group, rank_, own_in.left(), rank_, own_out.left());
  bool copied = false;
  SpinWait wait(crowded_);
  for (size_t done = 0; done < 2 * sends_.size();) {
    bool moved = false;
    done = 0;
    for (Way& way : sends_) {
      if (!way.done()) moved |= send_some(way);
      done += way.done();
    }
    for (Way& way : receives_) {
      if (!way.done()) moved |= receive_some(way, group);
      done += way.done();
    }
    if (moved) continue;
    if (!copied) copy(own_in, own_out);
    if (copied) wait.once();
    copied = true;
  }
  if (!copied) copy(own_in, own_out);
}

void check_sent(const std::string& group, int from, int64_t sent, int to, int64_t expected) {
  if (sent != expected) throw CountMismatch(group, from, sent, to, expected);
}

}  // namespace sluice
