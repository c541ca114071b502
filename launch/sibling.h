#pragma once

#include <string>
#include <vector>

namespace sluice {

/// Goes on as a program that is installed beside this one, which has libraries that training must not load. Returns
/// only by throwing Error, when there is no such program.
[[noreturn]] void become_sibling(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace sluice
