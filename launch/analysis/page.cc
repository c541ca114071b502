#include "launch/analysis/page.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>

namespace sluice {
namespace {

// Series 1 to 8 keep their distance for colour-blind eyes too, on either background.
constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --bg: #fcfcfb; --raised: #f4f3ef; --ink: #0b0b0b; --ink2: #52514e; --grid: #e1e0d9;
  --axis: #b5b4aa; --s1: #2a78d6; --s2: #eb6834; --s3: #1baf7a; --s4: #4a3aa7; --s5: #eda100; --s6: #e34948; --s7: #008300;
  --s8: #e87ba4; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #1a1a19; --raised: #242422; --ink: #ffffff; --ink2: #c3c2b7; --grid: #33332f; --axis: #5b5a54; --s1: #3987e5;
    --s2: #d95926; --s3: #199e70; --s4: #9085e9; --s5: #c98500; --s6: #e66767; --s7: #2f9a2f; --s8: #d55181; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 76rem; background: var(--bg); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { max-width: 48rem; color: var(--ink2); margin: .5rem 0; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; } a { color: var(--s1); }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1rem; align-items: start; }
figure { margin: 1rem 0 0; min-width: 0; } figcaption { font-weight: 600; }
svg { display: block; width: 100%; height: auto; max-width: 52rem; }
svg text { fill: var(--ink2); font: 12px system-ui, sans-serif; } svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
.grid { stroke: var(--grid); } .axis { stroke: var(--axis); fill: none; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke: var(--c); } .bar { stroke-width: 1.5; stroke: var(--c); }
.point { fill: var(--c); stroke: var(--bg); stroke-width: 1.5; } .mark { fill: none; stroke: var(--c); stroke-width: 2; }
.cell { fill: var(--s1); }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; color: var(--ink2); font-size: .85rem; }
.legend span::before { content: ""; display: inline-block; width: .8rem; height: .2rem; margin-right: .35rem;
  vertical-align: middle; background: var(--c); print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; margin: .75rem 0; }
th, td { text-align: left; padding: .2rem .75rem .2rem 0; border-bottom: 1px solid var(--grid); vertical-align: top; }
th { color: var(--ink2); font-weight: 600; } .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media print {
  :root { color-scheme: light; --bg: #ffffff; --raised: #f4f3ef; --ink: #000000; --ink2: #444444; --grid: #e1e0d9;
    --axis: #b5b4aa; --s1: #2a78d6; --s2: #eb6834; --s3: #1baf7a; --s4: #4a3aa7; --s5: #eda100; --s6: #e34948; --s7: #008300;
    --s8: #e87ba4; }
  nav { display: none; } figure, tr { break-inside: avoid; } h2 { break-after: avoid; } .scroll { overflow: visible; }
  body { max-width: none; padding: 0; } table { font-size: .6rem; } th, td { padding-right: .4rem; }
}
)";

bool is_number(const std::string& text) {
  if (text.empty() || text == "-") return true;
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return end != text.c_str() && (*end == 0 || *end == ' ' || *end == '%');
}

}  // namespace

std::string html_escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        // What XML does not allow, in a name that somebody has given.
        out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
  }
  return out;
}

std::string html_table(const HtmlTable& table) {
  std::vector<bool> numbers(table.head.size(), true);
  for (const auto& row : table.rows) {
    for (size_t i = 0; i < row.size(); ++i) numbers[i] = numbers[i] && is_number(row[i]);
  }
  const auto line = [&](const std::vector<std::string>& cells, const char* tag) {
    std::string out = "<tr>";
    for (size_t i = 0; i < cells.size(); ++i) {
      out += fmt::format("<{}{}>{}</{}>", tag, numbers[i] ? " class=\"number\"" : "", html_escape(cells[i]), tag);
    }
    return out + "</tr>\n";
  };
  std::string out = "<div class=\"scroll\"><table>\n<thead>" + line(table.head, "th") + "</thead>\n<tbody>\n";
  for (const auto& row : table.rows) out += line(row, "td");
  return out + "</tbody></table></div>\n";
}

std::string html_paragraph(const std::string& text) { return "<p>" + html_escape(text) + "</p>\n"; }

std::string html_row(const std::vector<std::string>& figures) {
  std::string out;
  for (const std::string& figure : figures) out += figure;
  return out.empty() ? "" : "<div class=\"row\">\n" + out + "</div>\n";
}

void HtmlPage::section(const std::string& id, const std::string& title, const std::string& body) {
  if (!body.empty()) sections_.push_back({id, title, body});
}

std::string HtmlPage::text() const {
  // The icon keeps browsers from asking for one.
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{}</title>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<link rel=\"icon\" href=\"data:,\">\n"
      "<style>{}</style>\n</head>\n<body>\n<h1>{}</h1>\n<nav>\n",
      html_escape(title_), kStyle, html_escape(title_));
  for (const Section& s : sections_) out += fmt::format("<a href=\"#{}\">{}</a>\n", s.id, html_escape(s.title));
  out += "</nav>\n";
  for (const Section& s : sections_) {
    out += fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n{}</section>\n", s.id, html_escape(s.title), s.body);
  }
  return out + "</body>\n</html>\n";
}

}  // namespace sluice
