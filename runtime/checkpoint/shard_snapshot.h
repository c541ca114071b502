#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "configs/manifest.pb.h"
#include "kernels/core/arena.h"
#include "kernels/core/stream.h"
#include "parallel/parameter_record.h"

namespace sluice {

/// Elements of a parameter that a rank writes: [begin, end) of what it holds of it, with their moments.
struct OwnedElements {
  const ParameterRecord* record = nullptr;
  int64_t begin = 0, end = 0;
  Tensor master, m, v;  ///< [end - begin] f32 | f64
};

/// What a rank owns of a checkpoint, copied into memory of its own: the tensors may change while the copy is written.
/// Over all ranks, every element must be owned once.
class ShardSnapshot {
 public:
  /// Takes the memory from `staging`, which must outlive it, as must what `owned` refers to.
  ShardSnapshot(const std::vector<OwnedElements>& owned, Arena& staging);

  /// Of all elements.
  int64_t bytes() const { return bytes_; }
  /// Copies all elements as they are now.
  void take(Stream& s);
  /// Takes the elements themselves, which must then not change until they are written. Needs no memory.
  void borrow();

  struct Written {
    Manifest manifest;  ///< the shard and its pieces only
    double cpu_s = 0;   ///< CPU time, of all threads
  };
  /// Writes what was taken as a shard; from any thread. Throws Error when the file cannot be written, `stop` asks not
  /// to, or a value is not finite.
  Written write(const std::string& folder, const std::string& file, const std::stop_token& stop = {}) const;

 private:
  struct Source {
    Piece piece;  // without checksums
    Tensor elements, copy;
    Tensor taken{};  // one of the two
  };

  std::vector<Source> sources_;  // in the order of the file
  int64_t bytes_ = 0;
};

}  // namespace sluice
