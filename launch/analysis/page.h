#pragma once

#include <string>
#include <vector>

namespace sluice {

/// Text as it may stand in HTML and in its attributes.
std::string html_escape(const std::string& text);

/// A table; cells are text. Columns whose cells are numbers stand to the right.
struct HtmlTable {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows{};
};
std::string html_table(const HtmlTable& table);

/// A page that needs nothing but itself: no script, no network; light and dark, and light on paper.
class HtmlPage {
 public:
  explicit HtmlPage(std::string title) : title_(std::move(title)) {}

  /// `body` is HTML. Sections without any are left out.
  void section(const std::string& id, const std::string& title, const std::string& body);
  std::string text() const;

 private:
  struct Section {
    std::string id, title, body;
  };
  const std::string title_;
  std::vector<Section> sections_;
};

/// A paragraph of text.
std::string html_paragraph(const std::string& text);
/// Figures beside each other where there is room.
std::string html_row(const std::vector<std::string>& figures);

}  // namespace sluice
