#include "runtime/files/text_message.h"

#include <algorithm>
#include <vector>

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

namespace sluice {

using google::protobuf::Descriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

namespace {

int edit_distance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string nearest_field(const Descriptor& message, const std::string& name) {
  std::string best;
  int best_distance = 1 << 20;
  for (int i = 0; i < message.field_count(); ++i) {
    const int distance = edit_distance(name, message.field(i)->name());
    if (distance < best_distance) best_distance = distance, best = message.field(i)->name();
  }
  return best;
}

}  // namespace

std::string unknown_field(const Descriptor& message, const std::string& name) {
  return "unknown field \"" + name + "\" in " + message.name() + "; did you mean \"" + nearest_field(message, name) +
         "\"?";
}

namespace {

/// Collects every problem of a text; unknown fields arrive as warnings, so that parsing goes on after them.
class Problems : public google::protobuf::io::ErrorCollector {
 public:
  Problems(std::string origin, const Descriptor& type) : origin_(std::move(origin)), type_(type) {}

  void AddError(int line, int column, const std::string& message) override {
    if (!lines_.empty()) lines_ += "\n";
    lines_ += origin_ + ":" + std::to_string(line + 1) + ":" + std::to_string(column + 1) + ": " + improved(message);
  }
  void AddWarning(int line, int column, const std::string& message) override { AddError(line, column, message); }
  const std::string& lines() const { return lines_; }

 private:
  /// The parser says: Message type "sluice.ModelConfig" has no field named "hiden_size".
  std::string improved(const std::string& message) const {
    const std::string type_mark = "Message type \"", name_mark = "has no field named \"";
    const size_t type = message.find(type_mark), name = message.find(name_mark);
    if (type == std::string::npos || name == std::string::npos) return message;
    const size_t type_begin = type + type_mark.size(), name_begin = name + name_mark.size();
    const std::string type_name = message.substr(type_begin, message.find('"', type_begin) - type_begin);
    const std::string field = message.substr(name_begin, message.find('"', name_begin) - name_begin);
    const Descriptor* descriptor = type_.file()->pool()->FindMessageTypeByName(type_name);
    return descriptor ? unknown_field(*descriptor, field) : message;
  }

  std::string origin_;
  const Descriptor& type_;
  std::string lines_;
};

}  // namespace

std::string merge_text(const std::string& text, const std::string& origin, Message& message) {
  Problems problems(origin, *message.GetDescriptor());
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&problems);
  parser.AllowUnknownField(true);
  parser.SetRecursionLimit(100);
  const bool ok = parser.MergeFromString(text, &message);
  if (!ok && problems.lines().empty()) return origin + ": not in proto2 text format";
  return problems.lines();
}

}  // namespace sluice
