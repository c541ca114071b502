#include "runtime/files/text_fields.h"

#include <unordered_map>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

namespace sluice {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::io::Tokenizer;

/// What is wrong with the text is the parser's to tell.
class Ignored : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

class Walk {
 public:
  Walk(const std::string& text, const Descriptor& type)
      : text_(text), input_(text.data(), static_cast<int>(text.size())), tokens_(&input_, &ignored_) {
    tokens_.set_comment_style(Tokenizer::SH_COMMENT_STYLE);
    tokens_.set_require_space_after_number(false);
    tokens_.set_allow_f_after_float(true);
    open_.push_back({&type, ""});
    tokens_.Next();
  }

  TextFields run() {
    while (token().type != Tokenizer::TYPE_END) {
      if (at("}") || at(">")) {
        if (open_.size() == 1) break;
        open_.pop_back();
        tokens_.Next();
      } else if (at(",") || at(";")) {
        tokens_.Next();
      } else if (token().type != Tokenizer::TYPE_IDENTIFIER || !read_field()) {
        break;
      }
    }
    return std::move(found_);
  }

 private:
  /// A message whose fields are being read; no type: an unknown one.
  struct Open {
    const Descriptor* type;
    std::string path;
  };

  const Tokenizer::Token& token() { return tokens_.current(); }
  bool at(const char* symbol) { return token().type == Tokenizer::TYPE_SYMBOL && token().text == symbol; }

  /// Where the current token lies in the text. Tokens are asked for in order, so that a long line costs no more.
  size_t offset() {
    constexpr int kTabWidth = 8;  // as the tokenizer counts
    for (; offset_ < text_.size() && (line_ < token().line || column_ < token().column); ++offset_) {
      if (text_[offset_] == '\n') {
        ++line_, column_ = 0;
      } else {
        column_ += text_[offset_] == '\t' ? kTabWidth - column_ % kTabWidth : 1;
      }
    }
    return offset_;
  }

  std::string path_of(const FieldDescriptor& field) {
    const std::string& parent = open_.back().path;
    const std::string path = parent.empty() ? field.name() : parent + "." + field.name();
    return field.is_repeated() ? path + "[" + std::to_string(counts_[path]++) + "]" : path;
  }

  bool read_field() {
    const Descriptor* type = open_.back().type;
    TextField found{type ? type->FindFieldByName(token().text) : nullptr, "", token().line, token().column};
    found.begin = offset();
    ++found_.names;
    if (found.field) found.path = path_of(*found.field);
    tokens_.Next();
    if (at(":")) tokens_.Next();
    if (at("{") || at("<")) {
      const bool known = found.field && found.field->message_type();
      open_.push_back({known ? found.field->message_type() : nullptr, found.path});
      tokens_.Next();
      return true;
    }
    found.value_begin = offset();
    if (!skip_value(found.end)) return false;
    if (found.field) found_.values.push_back(std::move(found));
    return true;
  }

  void skip_token(size_t& end) {
    end = offset() + token().text.size();
    tokens_.Next();
  }

  /// A list, or a word, number or strings; false when there is none.
  bool skip_value(size_t& end) {
    if (at("[")) {
      int depth = 0;
      do {
        depth += at("[") - at("]");
        skip_token(end);
      } while (depth > 0 && token().type != Tokenizer::TYPE_END);
      return depth == 0;
    }
    if (at("-")) skip_token(end);
    if (token().type == Tokenizer::TYPE_SYMBOL || token().type == Tokenizer::TYPE_END) return false;
    const bool strings = token().type == Tokenizer::TYPE_STRING;
    do {
      skip_token(end);
    } while (strings && token().type == Tokenizer::TYPE_STRING);
    return true;
  }

  const std::string& text_;
  google::protobuf::io::ArrayInputStream input_;
  Ignored ignored_;
  Tokenizer tokens_;
  std::vector<Open> open_;
  std::unordered_map<std::string, int> counts_;  // of a repeated field's elements so far
  TextFields found_;
  size_t offset_ = 0;  // and the place that it is
  int line_ = 0, column_ = 0;
};

}  // namespace

TextFields text_fields(const std::string& text, const Descriptor& type) { return Walk(text, type).run(); }

}  // namespace sluice
