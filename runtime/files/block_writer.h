#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <string>

namespace sluice {

/// Writes a long file in large aligned blocks, several at a time while the next is filled; where the file was opened
/// with O_DIRECT, past the page cache. Takes memory for some blocks.
class BlockWriter {
 public:
  /// `file` is open for writing and empty, and will have `expected_bytes` or about that many; `path` names it in
  /// errors. Throws Error when there is no room for them.
  BlockWriter(int file, std::string path, int64_t expected_bytes);
  /// Waits for what is being written.
  ~BlockWriter();
  BlockWriter(const BlockWriter&) = delete;
  BlockWriter& operator=(const BlockWriter&) = delete;

  /// Throws Error when an earlier block could not be written.
  void add(const char* data, size_t bytes);
  /// Writes what is left and waits for all. Throws Error.
  void finish();
  /// CPU time that blocks have taken so far, seconds.
  double blocks_cpu_s() const { return blocks_cpu_s_; }

 private:
  struct Free {
    void operator()(char* block) const;
  };

  struct Block {
    std::unique_ptr<char, Free> bytes;
    std::future<double> writing;  // the CPU time that it took
  };

  /// Hands the block that is filled to a thread, and waits for the next to be written.
  void start_block(size_t bytes);
  void wait(Block& block);
  double write_block(const char* block, size_t bytes, int64_t place) const;

  const int file_;
  const std::string path_;
  std::array<Block, 4> blocks_;
  size_t filling_ = 0;  // block
  size_t filled_ = 0;   // bytes of it
  int64_t started_ = 0, total_ = 0;
  double blocks_cpu_s_ = 0;
};

}  // namespace sluice
