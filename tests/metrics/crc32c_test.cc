#include "runtime/metrics/crc32c.h"

#include <string>

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Crc32c, GivesTheCheckValueOfItsDefinition) { EXPECT_EQ(crc32c("123456789"), 0xe3069283u); }

TEST(Crc32c, AgreesWithTheExamplesOfRfc3720) {
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending += c;
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(ascending), 0x46dd794eu);
}

TEST(Crc32c, OfNothingIsZero) { EXPECT_EQ(crc32c(""), 0u); }

}  // namespace
}  // namespace sluice
