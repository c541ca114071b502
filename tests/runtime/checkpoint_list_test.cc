#include "runtime/checkpoint_list.h"

#include "runtime/config.h"
#include "tests/checkpoint/small_checkpoint.h"

namespace sluice {
namespace {

using testing::HasSubstr;

/// A run folder with checkpoints of something small.
class RunFolder {
 public:
  /// Writes a checkpoint under checkpoints/FOLDER; returns where.
  std::string write(const std::string& name, int64_t step) const {
    const std::string folder = folder_ / ("checkpoints/" + name);
    const SmallCheckpoint model;
    Manifest manifest = model.write(folder, 2, 1);
    manifest.set_step(step);
    manifest.set_config("mesh { dp: 1 tp: 2 } optimizer { zero_stage: 0 }");
    write_manifest(folder, manifest);
    return folder;
  }
  std::vector<ListedCheckpoint> list() const { return list_checkpoints(folder_ / ""); }
  const TempFolder& files() const { return folder_; }

 private:
  TempFolder folder_;
};

TEST(CheckpointList, TellsWhatACheckpointIs) {
  const RunFolder run;
  run.write("step_00000009", 9);
  const std::string folder = run.write("step_00000004", 4);
  const std::vector<ListedCheckpoint> list = run.list();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].folder, "step_00000004");
  EXPECT_EQ(list[0].state, ListedCheckpoint::kGood);
  EXPECT_EQ(list[0].problem, "");
  EXPECT_EQ(list[0].step, 4);
  int64_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) bytes += static_cast<int64_t>(file.file_size());
  EXPECT_EQ(list[0].bytes, bytes);
  EXPECT_LT(std::chrono::system_clock::now() - list[0].written, std::chrono::minutes(5));
  ASSERT_TRUE(list[0].contents);
  EXPECT_EQ(list[0].contents->ranks, 2);
  EXPECT_EQ(list[0].contents->shards, 2);
  EXPECT_EQ(list[0].contents->parameters, 30);
  EXPECT_EQ(list[0].contents->mesh.tp(), 2);
  EXPECT_EQ(list[0].contents->zero_stage, 0);
  EXPECT_EQ(list[1].step, 9);
}

TEST(CheckpointList, TellsWhatIsNoGood) {
  const RunFolder run;
  const TempFolder& files = run.files();
  std::filesystem::remove(run.write("step_00000001", 1) + "/manifest.textproto");
  std::filesystem::remove(run.write("step_00000002", 2) + "/shard-00001-of-00002.safetensors");
  run.write("step_00000003", 3);
  files.write("checkpoints/step_00000003/shard-00000-of-00002.safetensors", "short");
  run.write("step_00000004", 4);
  files.write("checkpoints/step_00000004/manifest.textproto", "step: 4\n");
  run.write("step_00000005", 6);
  run.write("damaged_step_00000007_2", 7);
  run.write("replaced_step_00000007", 7);
  run.write("mine", 8);
  std::filesystem::remove(run.write("step_00000009", 9) + "/tokenizer.json");
  files.write("checkpoints/notes.txt", "not a folder");
  using State = ListedCheckpoint::State;
  const std::tuple<const char*, State, const char*> wanted[] = {
      {"step_00000001", State::kUnfinished, "there is no manifest"},
      {"step_00000002", State::kDamaged, "shard-00001-of-00002.safetensors: is missing"},
      {"step_00000003", State::kDamaged, "shard-00000-of-00002.safetensors: has 5 bytes"},
      {"step_00000004", State::kDamaged, "manifest_xxh3 is missing"},
      {"step_00000005", State::kDamaged, "step=6 in the folder of step 5"},
      {"damaged_step_00000007_2", State::kSetAside, ""},
      {"replaced_step_00000007", State::kReplaced, ""},
      {"mine", State::kOther, ""},
      {"step_00000009", State::kDamaged, "tokenizer.json: is missing"}};
  const std::vector<ListedCheckpoint> list = run.list();
  ASSERT_EQ(list.size(), std::size(wanted));
  for (size_t i = 0; i < list.size(); ++i) {
    const auto& [folder, state, problem] = wanted[i];
    EXPECT_EQ(list[i].folder, folder);
    EXPECT_EQ(list[i].state, state) << folder;
    EXPECT_THAT(list[i].problem, HasSubstr(problem)) << folder;
    EXPECT_EQ(list[i].problem.empty(), *problem == '\0') << folder;
  }
  EXPECT_FALSE(list[0].contents) << "of one without a manifest";
  EXPECT_TRUE(list[1].contents) << "of one whose manifest is good";
}

TEST(CheckpointList, AFolderThatIsNoRunIsRefused) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { list_checkpoints(folder / "none"); }), HasSubstr("none: holds no folder checkpoints"));
}

}  // namespace
}  // namespace sluice
