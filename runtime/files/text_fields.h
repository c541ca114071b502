#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace google::protobuf {
class Descriptor;
class FieldDescriptor;
}  // namespace google::protobuf

namespace sluice {

/// A `name: value` of a text in proto2 text format.
struct TextField {
  const google::protobuf::FieldDescriptor* field = nullptr;
  std::string path;           ///< model.gates[0].position
  int line = 0, column = 0;   ///< of its name, counted from 0
  size_t begin = 0, end = 0;  ///< of name and value in the text
  size_t value_begin = 0;     ///< [value_begin, end) is the value
};

struct TextFields {
  std::vector<TextField> values;  ///< of known fields, in order
  size_t names = 0;               ///< of all fields, unknown ones and those with fields of their own too
};

/// The fields that a text for a message sets, as far as it is well formed.
TextFields text_fields(const std::string& text, const google::protobuf::Descriptor& type);

}  // namespace sluice
