#include "runtime/metrics/event_writer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <unistd.h>

#include <fmt/format.h>

#include "configs/tensorboard_event.pb.h"
#include "kernels/core/error.h"
#include "runtime/metrics/crc32c.h"

namespace sluice {
namespace {

constexpr int kHistogramBuckets = 30;

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string event_file(const std::string& dir) {
  char host[256] = "localhost";
  ::gethostname(host, sizeof host - 1);
  return fmt::format("{}/events.out.tfevents.{:010d}.{}.{}", dir, static_cast<int64_t>(seconds_since_1970()), host,
                     ::getpid());
}

/// TFRecord stores checksums rotated and offset, so that a checksum of data that holds checksums stays meaningful.
uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <class T>
std::string little_endian(T value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

/// u64 length, u32 checksum of it, data, u32 checksum of the data.
std::string record(const std::string& data) {
  const std::string length = little_endian(uint64_t{data.size()});
  return length + little_endian(masked_crc32c(length)) + data + little_endian(masked_crc32c(data));
}

void fill_histogram(const std::vector<double>& values, tensorboard::Histogram& histogram) {
  const auto [smallest, largest] = std::minmax_element(values.begin(), values.end());
  const double min = *smallest, width = (*largest - min) / kHistogramBuckets;
  std::vector<double> counts(width > 0 ? kHistogramBuckets : 1);
  double sum = 0, sum_squares = 0;
  for (double value : values) {
    const size_t bucket = width > 0 ? static_cast<size_t>((value - min) / width) : 0;
    counts[std::min(bucket, counts.size() - 1)] += 1;
    sum += value;
    sum_squares += value * value;
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    histogram.add_bucket_limit(i + 1 == counts.size() ? *largest : min + width * static_cast<double>(i + 1));
    histogram.add_bucket(counts[i]);
  }
  histogram.set_min(min);
  histogram.set_max(*largest);
  histogram.set_num(static_cast<double>(values.size()));
  histogram.set_sum(sum);
  histogram.set_sum_squares(sum_squares);
}

}  // namespace

EventWriter::EventWriter(const std::string& dir) : file_(event_file(dir)) {
  tensorboard::Event event;
  event.set_file_version("brain.Event:2");
  write(event, 0);
}

void EventWriter::start_session(int64_t first_step) {
  tensorboard::Event event;
  event.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  write(event, first_step);
}

void EventWriter::scalars(int64_t step, const Scalars& values) {
  tensorboard::Event event;
  for (const auto& [tag, value] : values) {
    tensorboard::Summary::Value& entry = *event.mutable_summary()->add_value();
    entry.set_tag(tag);
    entry.set_simple_value(static_cast<float>(value));
  }
  write(event, step);
}

void EventWriter::histogram(int64_t step, const std::string& tag, std::span<const double> values) {
  std::vector<double> finite;
  std::copy_if(values.begin(), values.end(), std::back_inserter(finite), [](double x) { return std::isfinite(x); });
  if (finite.empty()) return;
  tensorboard::Event event;
  tensorboard::Summary::Value& entry = *event.mutable_summary()->add_value();
  entry.set_tag(tag);
  fill_histogram(finite, *entry.mutable_histo());
  write(event, step);
}

void EventWriter::histogram(int64_t step, const ScoreHistogram& scores) {
  const double count = std::accumulate(scores.counts.begin(), scores.counts.end(), 0.0);
  if (count == 0) return;
  tensorboard::Event event;
  tensorboard::Summary::Value& entry = *event.mutable_summary()->add_value();
  entry.set_tag(scores.tag);
  tensorboard::Histogram& histogram = *entry.mutable_histo();
  for (size_t i = 0; i < scores.counts.size(); ++i) {
    const double share = static_cast<double>(i + 1) / static_cast<double>(scores.counts.size());
    const double end = scores.lowest_bin + share * (scores.highest_bin - scores.lowest_bin);
    histogram.add_bucket_limit(i + 1 == scores.counts.size() ? std::max(end, scores.largest) : end);
    histogram.add_bucket(scores.counts[i]);
  }
  histogram.set_min(scores.smallest);
  histogram.set_max(scores.largest);
  histogram.set_num(count);
  histogram.set_sum(scores.sum);
  histogram.set_sum_squares(scores.sum_squares);
  write(event, step);
}

void EventWriter::text(int64_t step, const std::string& tag, const std::string& markdown) {
  tensorboard::Event event;
  tensorboard::Summary::Value& entry = *event.mutable_summary()->add_value();
  entry.set_tag(tag);
  entry.mutable_metadata()->mutable_plugin_data()->set_plugin_name("text");
  entry.mutable_tensor()->set_dtype(tensorboard::TextTensor::DT_STRING);
  entry.mutable_tensor()->mutable_tensor_shape()->add_dim()->set_size(1);
  entry.mutable_tensor()->add_string_val(markdown);
  write(event, step);
}

void EventWriter::write(tensorboard::Event& event, int64_t step) {
  event.set_wall_time(seconds_since_1970());
  event.set_step(step);
  std::string data;
  INVARIANT(event.SerializeToString(&data), "an event cannot be serialised");
  file_.append(record(data));
}

}  // namespace sluice
