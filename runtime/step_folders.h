#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/train.pb.h"

namespace sluice {

/// RUN/checkpoints/step_00001000.
std::string step_folder(const std::string& run_dir, int64_t step);

/// Steps of a run folder's checkpoints, ascending: of the folders that have a manifest, the others do not exist.
std::vector<int64_t> checkpoint_steps(const std::string& run_dir);

/// An empty folder for the checkpoint of a step, whatever an earlier attempt has left there. A checkpoint that is there
/// already is kept as checkpoints/replaced_step_X until remove_old_checkpoints(). Throws Error naming the folder, in
/// which case a checkpoint that was there still is.
void make_step_folder(const std::string& run_dir, int64_t step);

/// Removes what make_step_folder() has made, and puts back what it had replaced. Returns why it could not.
std::error_code give_up_step_folder(const std::string& run_dir, int64_t step);

/// The same for all steps whose new checkpoint was not finished by an earlier session; of the others what was replaced
/// is removed. Throws Error naming the folder. Called while nobody writes or reads.
void settle_replaced(const std::string& run_dir);

/// Removes checkpoints beyond the newest `keep` of a run up to step `newest` but those of every keep_every steps, those
/// of later steps, which the run has gone back behind, those that were replaced, and what is left of those that were
/// not finished. One that cannot be removed is warned of. Called while nobody writes or reads.
void remove_old_checkpoints(const std::string& run_dir, const CheckpointConfig& config, int64_t newest);

}  // namespace sluice
