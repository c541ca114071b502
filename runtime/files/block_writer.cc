#include "runtime/files/block_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <unistd.h>
#include <utility>

#include "kernels/core/error.h"
#include "runtime/files/thread_clock.h"

namespace sluice {
namespace {

/// Enough to keep a disk busy; O_DIRECT asks for whole pages.
constexpr size_t kBlock = size_t{4} << 20, kPage = 4096;

/// System calls take any addresses and counts from now on.
void leave_direct(int file) {
  const int flags = ::fcntl(file, F_GETFL);
  if (flags >= 0) ::fcntl(file, F_SETFL, flags & ~O_DIRECT);
}

}  // namespace

void BlockWriter::Free::operator()(char* block) const { std::free(block); }

BlockWriter::BlockWriter(int file, std::string path, int64_t expected_bytes) : file_(file), path_(std::move(path)) {
  // Blocks within the file need not wait for each other. Not every file system can do that.
  const bool reserved = ::fallocate(file, 0, 0, expected_bytes) == 0;
  ENSURE(reserved || errno != ENOSPC, path_, ": cannot write: ", std::strerror(errno));
  for (Block& block : blocks_) {
    block.bytes.reset(static_cast<char*>(std::aligned_alloc(kPage, kBlock)));
    if (!block.bytes) throw std::bad_alloc();
  }
}

BlockWriter::~BlockWriter() = default;

void BlockWriter::add(const char* data, size_t bytes) {
  total_ += static_cast<int64_t>(bytes);
  while (bytes > 0) {
    const size_t count = std::min(bytes, kBlock - filled_);
    std::memcpy(blocks_[filling_].bytes.get() + filled_, data, count);
    data += count, bytes -= count, filled_ += count;
    if (filled_ == kBlock) start_block(kBlock);
  }
}

void BlockWriter::start_block(size_t bytes) {
  Block& block = blocks_[filling_];
  // Without another thread, in this one, as it waits.
  block.writing =
      std::async(std::launch::async | std::launch::deferred,
                 [this, data = block.bytes.get(), bytes, place = started_] { return write_block(data, bytes, place); });
  started_ += static_cast<int64_t>(bytes);
  filling_ = (filling_ + 1) % blocks_.size();
  filled_ = 0;
  wait(blocks_[filling_]);
}

void BlockWriter::wait(Block& block) {
  if (block.writing.valid()) blocks_cpu_s_ += block.writing.get();
}

double BlockWriter::write_block(const char* block, size_t bytes, int64_t place) const {
  const double start = thread_cpu_time_s();
  bool direct = true;
  while (bytes > 0) {
    const ssize_t written = ::pwrite(file_, block, bytes, place);
    if (written < 0 && errno == EINTR) continue;
    // What a short write has left need not be whole pages, and some file systems refuse more than that. Another block
    // may have met it first.
    if (written < 0 && errno == EINVAL && std::exchange(direct, false)) {
      leave_direct(file_);
      continue;
    }
    ENSURE(written > 0, path_, ": cannot write: ", std::strerror(errno));
    block += written, place += written, bytes -= static_cast<size_t>(written);
  }
  return thread_cpu_time_s() - start;
}

void BlockWriter::finish() {
  if (filled_ > 0) {
    const size_t padded = (filled_ + kPage - 1) / kPage * kPage;
    std::memset(blocks_[filling_].bytes.get() + filled_, 0, padded - filled_);
    start_block(padded);
  }
  for (Block& block : blocks_) wait(block);
  ENSURE(::ftruncate(file_, total_) == 0, path_, ": cannot write: ", std::strerror(errno));
}

}  // namespace sluice
