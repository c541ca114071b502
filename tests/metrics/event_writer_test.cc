#include "runtime/metrics/event_writer.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "tests/metrics/files.h"

namespace sluice {
namespace {

using tensorboard::Event;
using testing_metrics::fresh_dir;
using testing_metrics::read_events;

TEST(EventWriter, OpensWithTheFileVersion) {
  const EventWriter writer(fresh_dir());
  const std::vector<Event> events = read_events(writer.path());
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
}

TEST(EventWriter, RecordsReadBackWithoutClosingTheFile) {
  EventWriter writer(fresh_dir());
  writer.start_session(41);
  writer.scalars(42, {{"loss", 2.5}, {"lr", 1e-3}});
  writer.text(42, "config", "    steps: 1");
  const std::vector<Event> events = read_events(writer.path());
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[1].session_log().status(), tensorboard::SessionLog::START);
  EXPECT_EQ(events[1].step(), 41);
  EXPECT_EQ(events[2].step(), 42);
  EXPECT_EQ(events[2].summary().value(0).tag(), "loss");
  EXPECT_EQ(events[2].summary().value(1).simple_value(), 1e-3f);
  EXPECT_EQ(events[3].summary().value(0).tensor().string_val(0), "    steps: 1");
  EXPECT_EQ(events[3].summary().value(0).metadata().plugin_data().plugin_name(), "text");
}

TEST(EventWriter, HistogramCountsEveryFiniteValueOnce) {
  EventWriter writer(fresh_dir());
  const double infinity = std::numeric_limits<double>::infinity();
  writer.histogram(1, "h", std::vector<double>{-1, 0, 0.5, 2, infinity, std::nan("")});
  const tensorboard::Histogram histogram = read_events(writer.path())[1].summary().value(0).histo();
  double counted = 0;
  for (double count : histogram.bucket()) counted += count;
  EXPECT_EQ(counted, 4);
  EXPECT_EQ(histogram.num(), 4);
  EXPECT_EQ(histogram.min(), -1);
  EXPECT_EQ(histogram.max(), 2);
  EXPECT_EQ(histogram.sum(), 1.5);
  EXPECT_EQ(histogram.sum_squares(), 5.25);
  EXPECT_EQ(histogram.bucket_limit_size(), histogram.bucket_size());
  EXPECT_EQ(*histogram.bucket_limit().rbegin(), 2);
}

TEST(EventWriter, HistogramOfEqualValuesHasOneBucket) {
  EventWriter writer(fresh_dir());
  writer.histogram(1, "h", std::vector<double>(5, 3.0));
  const tensorboard::Histogram histogram = read_events(writer.path())[1].summary().value(0).histo();
  ASSERT_EQ(histogram.bucket_size(), 1);
  EXPECT_EQ(histogram.bucket(0), 5);
}

TEST(EventWriter, HistogramWithoutFiniteValuesIsNotWritten) {
  EventWriter writer(fresh_dir());
  writer.histogram(1, "h", std::vector<double>{std::nan("")});
  EXPECT_EQ(read_events(writer.path()).size(), 1u);
}

TEST(EventWriter, NamesTheFileItCannotOpen) {
  try {
    EventWriter writer("/proc/no_such_folder");
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("/proc/no_such_folder/events.out.tfevents."), std::string::npos);
  }
}

}  // namespace
}  // namespace sluice
