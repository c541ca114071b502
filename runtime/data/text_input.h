#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace sluice {

/// A stream of bytes from a plain, gzip (.gz) or zstd (.zst) file.
class TextInput {
 public:
  virtual ~TextInput() = default;
  /// Up to `size` bytes; 0 at the end. Throws Error naming the file when it is damaged or cut off.
  virtual size_t read(char* data, size_t size) = 0;
};

/// Chooses by the file's ending. Throws Error when it cannot be opened.
std::unique_ptr<TextInput> open_text(const std::string& path);

}  // namespace sluice
