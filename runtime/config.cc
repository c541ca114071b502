#include "runtime/config.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include <google/protobuf/text_format.h>

#include "kernels/core/error.h"
#include "runtime/files/text_message.h"

namespace sluice {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;

/// One element of an override's path: a field name and, for a repeated field, an index (-1 without).
struct PathStep {
  std::string name;
  int index = -1;
};

bool parse_path(const std::string& path, std::vector<PathStep>& steps) {
  std::stringstream parts(path);
  std::string part;
  while (std::getline(parts, part, '.')) {
    PathStep step{part, -1};
    const size_t bracket = part.find('[');
    if (bracket != std::string::npos) {
      const std::string digits = part.substr(bracket + 1, part.size() - bracket - 2);
      const bool number =
          !digits.empty() && digits.size() < 6 && digits.find_first_not_of("0123456789") == std::string::npos;
      if (part.back() != ']' || !number) return false;
      step = {part.substr(0, bracket), std::stoi(digits)};
    }
    if (step.name.empty()) return false;
    steps.push_back(step);
  }
  return !steps.empty();
}

bool looks_quoted(const std::string& value) { return value.size() >= 2 && (value[0] == '"' || value[0] == '\''); }

std::string quoted(const std::string& value) {
  std::string out = "\"";
  for (char c : value) out += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return out + "\"";
}

/// Sets an element of a repeated field of scalars, or appends it. Returns a problem or nothing.
std::string assign_element(Message& message, const FieldDescriptor& field, int index, const std::string& literal,
                           const std::string& origin) {
  const std::unique_ptr<Message> element(message.New());
  const std::string problem = merge_value(literal, field, origin, *element);
  if (!problem.empty()) return problem;
  const Reflection& reflection = *message.GetReflection();
  if (reflection.FieldSize(*element, &field) != 1) return origin + ": an element is one value";
  message.MergeFrom(*element);
  const int last = reflection.FieldSize(message, &field) - 1;
  if (index == last) return {};
  reflection.SwapElements(&message, &field, index, last);
  reflection.RemoveLast(&message, &field);
  return {};
}

/// Sets the last field of a path. Returns a problem or nothing.
std::string assign(Message& message, const FieldDescriptor& field, int index, const std::string& value,
                   const std::string& origin) {
  const Reflection& reflection = *message.GetReflection();
  if (value.empty() && index < 0) {
    reflection.ClearField(&message, &field);
    return {};
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    if (value.size() < 2 || value.front() != '{' || value.back() != '}')
      return origin + ": expected fields in braces, {name: value ...}";
    // As for other values: one element takes the place of all.
    if (field.is_repeated() && index < 0) reflection.ClearField(&message, &field), index = 0;
    Message& target = !field.is_repeated() ? *reflection.MutableMessage(&message, &field)
                      : index < reflection.FieldSize(message, &field)
                          ? *reflection.MutableRepeatedMessage(&message, &field, index)
                          : *reflection.AddMessage(&message, &field);
    target.Clear();
    return merge_text(value.substr(1, value.size() - 2), origin, target);
  }
  const bool text = field.cpp_type() == FieldDescriptor::CPPTYPE_STRING;
  const std::string literal = text && !looks_quoted(value) ? quoted(value) : value;
  if (index >= 0) return assign_element(message, field, index, literal, origin);
  reflection.ClearField(&message, &field);
  return merge_value(literal, field, origin, message);
}

std::string apply_override(const std::string& override_text, TrainConfig& config) {
  const std::string origin = "--set " + override_text;
  const size_t equals = override_text.find('=');
  std::vector<PathStep> steps;
  if (equals == std::string::npos || !parse_path(override_text.substr(0, equals), steps)) {
    return origin + ": expected path=value, for instance optimizer.lr=1e-3";
  }
  Message* message = &config;
  for (size_t i = 0;; ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(steps[i].name);
    if (!field) return origin + ": " + unknown_field(*message->GetDescriptor(), steps[i].name);
    const Reflection& reflection = *message->GetReflection();
    if (steps[i].index >= 0) {
      if (!field->is_repeated()) return origin + ": " + field->name() + " is not repeated, it takes no index";
      const int size = reflection.FieldSize(*message, field);
      if (steps[i].index > size) return origin + ": " + field->name() + " has " + std::to_string(size) + " elements";
    }
    if (i + 1 == steps.size())
      return assign(*message, *field, steps[i].index, override_text.substr(equals + 1), origin);
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return origin + ": " + field->name() + " has no fields";
    if (field->is_repeated() && steps[i].index < 0)
      return origin + ": " + field->name() + " needs an index, [0] for instance";
    message = !field->is_repeated() ? reflection.MutableMessage(message, field)
              : steps[i].index < reflection.FieldSize(*message, field)
                  ? reflection.MutableRepeatedMessage(message, field, steps[i].index)
                  : reflection.AddMessage(message, field);
  }
}

/// `asked_by` names the file in messages: the command line's, or an include.
std::string read_config(const std::string& file, const std::string& asked_by) {
  std::ifstream in(file, std::ios::binary);
  ENSURE(in, asked_by, ": cannot be read");
  std::error_code error;
  ENSURE(!std::filesystem::is_directory(file, error), asked_by, ": is a folder, not a file");
  std::stringstream text;
  text << in.rdbuf();
  ENSURE(!in.bad(), asked_by, ": cannot be read");
  return text.str();
}

/// Problems so far, one a line.
void add_problem(std::string& problems, const std::string& problem) {
  if (!problem.empty()) problems += (problems.empty() ? "" : "\n") + problem;
}

/// A file behind those that it includes, and so on; `within` has the files that led here.
TrainConfig merge_file(const std::string& file, const std::string& asked_by, std::vector<std::string>& within,
                       std::string& problems) {
  constexpr size_t kDeepest = 16;
  TrainConfig own, merged;
  add_problem(problems, merge_text(read_config(file, asked_by), file, own));
  within.push_back(file);
  for (const std::string& name : own.include()) {
    const std::string path = (std::filesystem::path(file).parent_path() / name).lexically_normal().string();
    const std::string origin = concat(file, ": include \"", name, "\"");
    if (std::find(within.begin(), within.end(), path) != within.end()) {
      add_problem(problems, origin + " includes itself");
    } else if (within.size() == kDeepest) {
      add_problem(problems, concat(origin, " is more than ", kDeepest, " files deep"));
    } else {
      try {
        merged.MergeFrom(merge_file(path, concat(origin, ": ", path), within, problems));
      } catch (const Error& error) {
        add_problem(problems, error.what());
      }
    }
  }
  within.pop_back();
  own.clear_include();
  merged.MergeFrom(own);
  return merged;
}

TrainConfig with_overrides(TrainConfig config, std::string problems, const std::vector<std::string>& overrides) {
  for (const std::string& override_text : overrides) add_problem(problems, apply_override(override_text, config));
  if (config.include_size() > 0) add_problem(problems, "include: only a file can include others");
  ENSURE(problems.empty(), problems);
  return config;
}

}  // namespace

TrainConfig parse_config(const std::string& text, const std::string& origin,
                         const std::vector<std::string>& overrides) {
  TrainConfig config;
  const std::string problems = merge_text(text, origin, config);
  return with_overrides(config, problems, overrides);
}

TrainConfig load_config(const std::string& file, const std::vector<std::string>& overrides) {
  std::vector<std::string> within;
  std::string problems;
  const TrainConfig config =
      merge_file(std::filesystem::path(file).lexically_normal().string(), "--config " + file, within, problems);
  return with_overrides(config, problems, overrides);
}

std::string config_text(const TrainConfig& config) {
  std::string text;
  INVARIANT(TextFormat::PrintToString(config, &text), "the configuration cannot be printed");
  return text;
}

}  // namespace sluice
