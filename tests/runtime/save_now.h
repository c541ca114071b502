#pragma once

#include <gtest/gtest.h>

#include "runtime/save.h"

namespace sluice {

/// Writes the checkpoint of a step and waits for it.
inline void save_now(const SavedRun& run, Stream& s, int64_t step) {
  CheckpointSaver saver(run);
  saver.begin(s, {step});
  saver.finish();
  EXPECT_EQ(saver.failure(), "");
}

}  // namespace sluice
