#include "runtime/files/text_message.h"

#include <algorithm>
#include <memory>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include <climits>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include "runtime/files/nearest_name.h"
#include "runtime/files/text_fields.h"

namespace sluice {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

std::string unknown_field(const Descriptor& message, const std::string& name) {
  std::vector<std::string> known;
  for (int i = 0; i < message.field_count(); ++i) known.push_back(message.field(i)->name());
  return "unknown field \"" + name + "\" in " + message.name() + "; did you mean \"" +
         nearest_name(name, known, INT_MAX) + "\"?";
}

namespace {

/// A problem and where it is, counted from 0.
struct Problem {
  int line, column;
  std::string text;
};

/// Collects every problem of a text; unknown fields arrive as warnings, so that parsing goes on after them.
class Collector : public google::protobuf::io::ErrorCollector {
 public:
  explicit Collector(const Descriptor& type) : type_(type) {}

  void AddError(int line, int column, const std::string& message) override {
    problems_.push_back({line, column, improved(message)});
  }
  void AddWarning(int line, int column, const std::string& message) override { AddError(line, column, message); }
  std::vector<Problem>& problems() { return problems_; }

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

  const Descriptor& type_;
  std::vector<Problem> problems_;
};

/// Merges and returns what is wrong.
std::vector<Problem> parse(const std::string& text, Message& message) {
  Collector collector(*message.GetDescriptor());
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&collector);
  parser.AllowUnknownField(true);
  parser.SetRecursionLimit(100);
  const bool ok = parser.MergeFromString(text, &message);
  if (!ok && collector.problems().empty()) collector.AddError(0, 0, "not in proto2 text format");
  return std::move(collector.problems());
}

std::string expected(const FieldDescriptor& field) {
  if (field.message_type()) return "expected fields in braces";
  if (!field.enum_type()) return std::string("expected a value of type ") + field.cpp_type_name();
  std::string names;
  for (int i = 0; i < field.enum_type()->value_count(); ++i) {
    names += (i ? ", " : "") + field.enum_type()->value(i)->name();
  }
  return "expected one of " + names;
}

/// Values that are not of their field's type. They are blanked out of the text, since the parser stops at the first.
std::vector<Problem> take_bad_values(const TextFields& fields, Message& message, std::string& text) {
  std::vector<Problem> problems;
  for (const TextField& value : fields.values) {
    const Message& prototype =
        *message.GetReflection()->GetMessageFactory()->GetPrototype(value.field->containing_type());
    const std::unique_ptr<Message> alone(prototype.New());
    if (parse(text.substr(value.begin, value.end - value.begin), *alone).empty()) continue;
    problems.push_back({value.line, value.column,
                        value.path + ": " + expected(*value.field) + ", got " +
                            text.substr(value.value_begin, value.end - value.value_begin)});
    for (size_t i = value.begin; i < value.end; ++i) {
      if (text[i] != '\n' && text[i] != '\t') text[i] = ' ';
    }
    const size_t separator = text.find_first_not_of(" \t\r\n", value.end);
    if (separator != std::string::npos && (text[separator] == ',' || text[separator] == ';')) text[separator] = ' ';
  }
  return problems;
}

/// Fields that take one value and have two, of which the parser would use the last.
std::vector<Problem> repeated_values(const TextFields& fields) {
  std::vector<Problem> problems;
  std::unordered_map<std::string, int> lines;
  for (const TextField& value : fields.values) {
    const auto [first, is_first] = lines.emplace(value.path, value.line);
    if (is_first) continue;
    problems.push_back(
        {value.line, value.column, value.path + " is set twice, before in line " + std::to_string(first->second + 1)});
  }
  return problems;
}

}  // namespace

std::string merge_text(const std::string& text, const std::string& origin, Message& message) {
  const TextFields fields = text_fields(text, *message.GetDescriptor());
  std::vector<Problem> problems = repeated_values(fields);
  std::vector<Problem> others = parse(text, message);
  if (!others.empty()) {
    std::string rest = text;
    const std::vector<Problem> values = take_bad_values(fields, message, rest);
    problems.insert(problems.end(), values.begin(), values.end());
    const std::unique_ptr<Message> unused(message.New());
    others = parse(rest, *unused);
  }
  problems.insert(problems.end(), others.begin(), others.end());
  std::sort(problems.begin(), problems.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.line, a.column, a.text) < std::tie(b.line, b.column, b.text);
  });
  std::string lines;
  for (const Problem& problem : problems) {
    lines += (lines.empty() ? "" : "\n") + origin + ":" + std::to_string(problem.line + 1) + ":" +
             std::to_string(problem.column + 1) + ": " + problem.text;
  }
  return lines;
}

std::string merge_value(const std::string& value, const FieldDescriptor& field, const std::string& origin,
                        Message& message) {
  const std::string text = field.name() + ": " + value;
  const TextFields fields = text_fields(text, *message.GetDescriptor());
  if (fields.names > 1) return origin + ": sets more than one field; use one --set for each";
  const bool whole =
      fields.values.size() == 1 && text.find_first_not_of(" \t\n", fields.values[0].end) == std::string::npos;
  if (!whole || !parse(text, message).empty()) return origin + ": " + expected(field) + ", got " + value;
  return {};
}

}  // namespace sluice
