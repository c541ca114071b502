#include "runtime/step_folders.h"

#include <filesystem>

#include <gmock/gmock.h>

#include "kernels/core/error.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::ElementsAre;

/// A run folder; what makes a checkpoint here is a manifest, whatever it says.
class StepFolders : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& manifest = "whole") const {
    std::filesystem::create_directories(folder_ / ("checkpoints/" + name));
    folder_.write("checkpoints/" + name + "/manifest.textproto", manifest);
  }
  std::string manifest(const std::string& name) const {
    return folder_.read("checkpoints/" + name + "/manifest.textproto");
  }
  static CheckpointConfig keep(int64_t count) {
    CheckpointConfig config;
    config.set_keep(count);
    return config;
  }

  const TempFolder folder_;
  const std::string run_dir_ = folder_ / "";
};

TEST_F(StepFolders, WhatARunHasGoneBackBehindDoesNotStay) {
  write("step_00000001");
  write("step_00000002");
  remove_old_checkpoints(run_dir_, keep(1), 1);
  EXPECT_THAT(checkpoint_steps(run_dir_), ElementsAre(1));
}

TEST_F(StepFolders, WhatAnEarlierAttemptLeftDoesNotStay) {
  write("step_00000001");
  std::filesystem::create_directories(folder_ / "checkpoints/step_00000002");
  folder_.write("checkpoints/step_00000002/shard-00007-of-00008.safetensors", "left");
  std::filesystem::create_directories(folder_ / "checkpoints/step_00000009");
  make_step_folder(run_dir_, 2);
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "checkpoints/step_00000002"));
  write("step_00000002");
  remove_old_checkpoints(run_dir_, keep(1), 100);
  EXPECT_THAT(checkpoint_steps(run_dir_), ElementsAre(2)) << "the newest that is whole";
  EXPECT_FALSE(folder_.has("checkpoints/step_00000009"));
}

TEST_F(StepFolders, WhatIsReplacedWaitsForTheNewOne) {
  write("step_00000001", "old");
  make_step_folder(run_dir_, 1);
  EXPECT_THAT(checkpoint_steps(run_dir_), ElementsAre());
  EXPECT_EQ(manifest("replaced_step_00000001"), "old");
  EXPECT_FALSE(give_up_step_folder(run_dir_, 1));
  EXPECT_EQ(manifest("step_00000001"), "old");
  make_step_folder(run_dir_, 1);
  write("step_00000001", "new");
  remove_old_checkpoints(run_dir_, keep(1), 1);
  EXPECT_EQ(manifest("step_00000001"), "new");
  EXPECT_FALSE(folder_.has("checkpoints/replaced_step_00000001"));
}

TEST_F(StepFolders, AMachineThatGoesDownInBetweenLosesNothing) {
  write("step_00000001", "old");
  make_step_folder(run_dir_, 1);
  write("step_00000002", "new");
  write("replaced_step_00000002", "old");
  settle_replaced(run_dir_);
  EXPECT_EQ(manifest("step_00000001"), "old");
  EXPECT_EQ(manifest("step_00000002"), "new");
  EXPECT_FALSE(folder_.has("checkpoints/replaced_step_00000001"));
  EXPECT_FALSE(folder_.has("checkpoints/replaced_step_00000002"));
}

TEST_F(StepFolders, WhatCannotBeReplacedStays) {
  write("step_00000001", "old");
  // Not a folder that could be removed.
  const std::string in_the_way = folder_ / "checkpoints/replaced_step_00000001/manifest.textproto/x";
  std::filesystem::create_directories(in_the_way);
  EXPECT_THROW(make_step_folder(run_dir_, 1), Error);
  EXPECT_EQ(manifest("step_00000001"), "old");
}

}  // namespace
}  // namespace sluice
