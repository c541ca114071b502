#pragma once

#include <string>

namespace google::protobuf {
class Descriptor;
class FieldDescriptor;
class Message;
}  // namespace google::protobuf

namespace sluice {

/// Merges proto2 text format into a message. Returns every problem, one a line that begins with `origin` and line and
/// column: unknown fields with the nearest known name, values of another type with the field's path, fields that are
/// set twice. Empty: all is well; otherwise the message may hold a part.
std::string merge_text(const std::string& text, const std::string& origin, google::protobuf::Message& message);

/// The same for one value of a field, a problem also when anything follows it.
std::string merge_value(const std::string& value, const google::protobuf::FieldDescriptor& field,
                        const std::string& origin, google::protobuf::Message& message);

/// unknown field "hiden_size" in ModelConfig; did you mean "hidden_size"?
std::string unknown_field(const google::protobuf::Descriptor& message, const std::string& name);

}  // namespace sluice
