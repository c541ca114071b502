#include "runtime/files/input_file.h"

#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

TEST(InputFile, GivesTheBytesAskedForAndNoMoreThanThereAre) {
  const TempFolder folder;
  const InputFile file(folder.write("letters", "abcdefgh"));
  EXPECT_EQ(file.size(), 8);
  std::string bytes(3, '\0');
  file.read(2, 3, bytes.data());
  EXPECT_EQ(bytes, "cde");
  file.read(8, 0, bytes.data());
  EXPECT_THAT(error_of([&] { file.read(6, 3, bytes.data()); }),
              HasSubstr("letters: ends at byte 8, 1 bytes are missing"));
}

TEST(InputFile, AFileThatCannotBeReadIsNamed) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { InputFile file(folder / "none"); }), HasSubstr("none: cannot open: No such file"));
  EXPECT_THAT(error_of([&] { InputFile file(folder / ""); }), HasSubstr("cannot be read: not a regular file"));
}

}  // namespace
}  // namespace sluice
