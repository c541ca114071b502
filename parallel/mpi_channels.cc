#include "parallel/mpi_channels.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/core/error.h"
#include "parallel/mpi_node_memory.h"
#include "parallel/spin_wait.h"

namespace sluice {
namespace {

// Two slots of a pair fit the second-level cache beside what is copied.
constexpr int64_t kSlotBytes = int64_t{64} << 10;
constexpr uint64_t kSlots = 2;

/// Bytes that a receiver reads from where the sender has them.
struct Place {
  const char* data;
  int64_t bytes;
};

}  // namespace

struct MpiChannels::Channel {
  alignas(64) std::atomic<uint64_t> filled;   ///< slots, by the sender
  alignas(64) std::atomic<uint64_t> emptied;  ///< slots, by the receiver
  alignas(64) int64_t total;                  ///< bytes of the call that begins with the next slot
  int64_t places;                             ///< in that slot, instead of bytes; 0: the slots bring the bytes
  alignas(64) char slots[kSlots][kSlotBytes];
};

MpiChannels::MpiChannels(MPI_Comm comm, int rank, int size, MpiTransport transport, const MpiPeerMemory* peers)
    : rank_(rank), size_(size), crowded_(ranks_share_cores()), peers_(peers) {
  memory_ = make_mpi_node_memory(comm, rank, static_cast<int64_t>(sizeof(Channel)) * size, transport);
  INVARIANT(static_cast<int>(memory_->ranks().size()) == size, "channels between nodes");
}

MpiChannels::~MpiChannels() = default;

MpiChannels::Channel& MpiChannels::channel(int from, int to) const {
  return static_cast<Channel*>(memory_->part(static_cast<size_t>(to)))[from];
}

bool MpiChannels::send_some(Way& way) {
  Channel& channel = this->channel(rank_, way.rank);
  const uint64_t filled = channel.filled.load(std::memory_order_relaxed);
  const uint64_t emptied = channel.emptied.load(std::memory_order_acquire);
  if (way.being_read) {
    way.being_read = filled != emptied;
    return !way.being_read;
  }
  // The total is read with the first slot of a call; the call before must be through.
  if (way.begun ? filled - emptied == kSlots : filled != emptied) return false;
  char* slot = channel.slots[filled % kSlots];
  if (!way.begun) {
    channel.total = way.stream.left();
    channel.places = tell_places(way.stream, slot);
    way.being_read = channel.places > 0;
  }
  way.begun = true;
  if (!way.being_read) take(way.stream, slot, std::min(way.stream.left(), kSlotBytes));
  channel.filled.store(filled + 1, std::memory_order_release);
  return true;
}

bool MpiChannels::receive_some(Way& way, const std::string& group) {
  Channel& channel = this->channel(way.rank, rank_);
  const uint64_t emptied = channel.emptied.load(std::memory_order_relaxed);
  if (channel.filled.load(std::memory_order_acquire) == emptied) return false;
  if (!way.begun) check_sent(group, way.rank, channel.total, rank_, way.stream.left());
  way.begun = true;
  const char* slot = channel.slots[emptied % kSlots];
  if (channel.places > 0) {
    read_places(channel, slot, way);
  } else {
    put(slot, way.stream, std::min(way.stream.left(), kSlotBytes));
  }
  channel.emptied.store(emptied + 1, std::memory_order_release);
  return true;
}

int64_t MpiChannels::tell_places(RowStream& stream, char* slot) const {
  constexpr int64_t kMostPlaces = kSlotBytes / static_cast<int64_t>(sizeof(Place));
  if (!peers_ || stream.left() < MpiPeerMemory::kWorthwhileBytes) return 0;
  int64_t places = 0;
  RowStream rest = stream;
  for (; rest.left() > 0; rest.skip(rest.together()), ++places) {
    if (places == kMostPlaces) return 0;
    const Place place = {rest.next(), rest.together()};
    std::memcpy(slot + places * static_cast<int64_t>(sizeof place), &place, sizeof place);
  }
  stream = rest;
  return places;
}

void MpiChannels::read_places(const Channel& channel, const char* slot, Way& way) {
  pieces_.clear();
  for (int64_t i = 0; i < channel.places; ++i) {
    Place place;
    std::memcpy(&place, slot + i * static_cast<int64_t>(sizeof place), sizeof place);
    while (place.bytes > 0) {
      const int64_t n = std::min(place.bytes, way.stream.together());
      pieces_.push_back({place.data, way.stream.next(), n});
      way.stream.skip(n);
      place.data += n;
      place.bytes -= n;
    }
  }
  peers_->read(way.rank, pieces_);
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
