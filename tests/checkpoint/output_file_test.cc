#include "runtime/files/output_file.h"

#include <algorithm>

#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

std::string made_up_bytes(size_t count) {
  std::string bytes(count, '\0');
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
  return bytes;
}

TEST(OutputFile, HoldsWhatWasWrittenInWhateverPortions) {
  const TempFolder folder;
  // Some of them long enough for several blocks, with and without a rest.
  for (const size_t size : {size_t{0}, size_t{5}, size_t{300'001}, size_t{9'000'001}, size_t{8} << 20}) {
    const std::string bytes = made_up_bytes(size);
    for (const size_t portion : {size_t{4096}, size_t{77'777}, size_t{10'000'000}}) {
      OutputFile file(folder / "x", static_cast<int64_t>(size));
      for (size_t at = 0; at < size; at += portion) file.write(bytes.data() + at, std::min(portion, size - at));
      EXPECT_FALSE(folder.has("x"));
      file.commit();
      EXPECT_EQ(folder.read("x"), bytes) << size << " bytes in portions of " << portion;
      std::filesystem::remove(folder / "x");
    }
  }
}

TEST(OutputFile, ALongOneWithoutCommitLeavesNothing) {
  const TempFolder folder;
  {
    OutputFile file(folder / "x", int64_t{5} << 20);
    file.write(made_up_bytes(5 << 20));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder / ""));
}

TEST(OutputFile, AFolderThatIsNotThereIsNamed) {
  const TempFolder folder;
  for (const int64_t bytes : {int64_t{0}, int64_t{1} << 30}) {
    EXPECT_THAT(error_of([&] { OutputFile file(folder / "none/x", bytes); }),
                HasSubstr("none/x.tmp: cannot write: No such file"));
  }
}

}  // namespace
}  // namespace sluice
