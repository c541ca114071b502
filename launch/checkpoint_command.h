#pragma once

#include <string>

namespace sluice {

struct CheckpointListOptions {
  std::string run_dir;
  bool json = false;
};
/// `sluice checkpoint list`: every folder under RUN/checkpoints. Throws Error when they cannot be listed.
void run_checkpoint_list(const CheckpointListOptions& options);

struct CheckpointVerifyOptions {
  std::string checkpoint;  ///< a step folder
  bool json = false;
};
/// `sluice checkpoint verify`: prints what was checked or every problem; throws Error when there is one.
void run_checkpoint_verify(const CheckpointVerifyOptions& options);

struct CheckpointDiffOptions {
  std::string a, b;  ///< step folders
  bool json = false;
};
/// `sluice checkpoint diff`: prints what differs. Throws Error when either cannot be read.
void run_checkpoint_diff(const CheckpointDiffOptions& options);

struct CheckpointReshardOptions {
  std::string checkpoint;  ///< a step folder
  std::string out;         ///< folder to write
  int shards = 0;
};
/// `sluice checkpoint reshard`: writes the checkpoint anew in so many files. Throws what reshard_checkpoint does.
void run_checkpoint_reshard(const CheckpointReshardOptions& options);

}  // namespace sluice
