#pragma once

#include <string>

namespace google::protobuf {
class Descriptor;
class Message;
}  // namespace google::protobuf

namespace sluice {

/// Merges proto2 text format into a message. Returns every problem, one a line that begins with `origin` and line and
/// column; unknown fields come with the nearest known name. Empty: all is well.
std::string merge_text(const std::string& text, const std::string& origin, google::protobuf::Message& message);

/// unknown field "hiden_size" in ModelConfig; did you mean "hidden_size"?
std::string unknown_field(const google::protobuf::Descriptor& message, const std::string& name);

}  // namespace sluice
