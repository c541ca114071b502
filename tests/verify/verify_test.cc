#include <gtest/gtest.h>

#include "parallel/thread_group.h"
#include "runtime/config.h"
#include "runtime/validate.h"
#include "runtime/verify/certificate.h"
#include "tests/verify/layouts.h"

namespace sluice {
namespace {

class VerifiedLayout : public testing::TestWithParam<Layout> {};

TEST_P(VerifiedLayout, ComputesWhatOneRankComputes) {
  const Certificate certificate = verify_on_threads(layout_config(GetParam()));
  const Comparison* different = certificate.first_difference();
  if (different) FAIL() << different->name << " differs by " << different->error << " after " << different->after;
  EXPECT_GT(certificate.comparisons.size(), 20u);
}

INSTANTIATE_TEST_SUITE_P(ThreadGroup, VerifiedLayout, testing::ValuesIn(chosen_layouts()), layout_name);

}  // namespace
}  // namespace sluice
