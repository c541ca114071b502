#include "runtime/metrics/event_writer.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

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

TEST(EventWriter, HistogramOfScoresKeepsTheirBins) {
  EventWriter writer(fresh_dir());
  ScoreHistogram scores{"gate_scores/G1/layer_00", {0, 3, 0, 5}, 0, 1, 0.3, 0.9, 4.5, 3.25};
  writer.histogram(7, scores);
  const Event event = read_events(writer.path())[1];
  EXPECT_EQ(event.step(), 7);
  EXPECT_EQ(event.summary().value(0).tag(), "gate_scores/G1/layer_00");
  const tensorboard::Histogram histogram = event.summary().value(0).histo();
  EXPECT_EQ(histogram.num(), 8);
  EXPECT_EQ(histogram.sum(), 4.5);
  EXPECT_EQ(histogram.sum_squares(), 3.25);
  EXPECT_EQ(histogram.min(), 0.3);
  EXPECT_EQ(histogram.max(), 0.9);
  // How many scores lie below a limit is what the bins say.
  const auto below = [&](double limit) {
    double count = 0;
    for (int i = 0; i < histogram.bucket_size(); ++i)
      count += histogram.bucket_limit(i) <= limit ? histogram.bucket(i) : 0;
    return count;
  };
  EXPECT_EQ(below(0.25), 0);
  EXPECT_EQ(below(0.5), 3);
  EXPECT_EQ(below(0.75), 3);
  EXPECT_EQ(below(1), 8);
}

TEST(EventWriter, HistogramOfScoresLiesWhereTheirBinsDo) {
  EventWriter writer(fresh_dir());
  writer.histogram(7, {"gate_scores/G1/layer_00", {1, 3, 0, 5}, -4, 4, -6, 7, 4.5, 3.25});
  const tensorboard::Histogram histogram = read_events(writer.path())[1].summary().value(0).histo();
  EXPECT_THAT(std::vector<double>(histogram.bucket_limit().begin(), histogram.bucket_limit().end()),
              testing::ElementsAre(-2, 0, 2, 7))
      << "the last bin has what lies above";
}

TEST(EventWriter, HistogramOfNoScoresIsNotWritten) {
  EventWriter writer(fresh_dir());
  writer.histogram(7, ScoreHistogram{"gate_scores/G1/layer_00", {0, 0}});
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
