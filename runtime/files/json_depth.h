#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"

namespace sluice {

/// Callback for nlohmann::json::parse that throws Error when values nest deeper than any format here does: printing and
/// copying them would take a stack frame a level.
inline nlohmann::json::parser_callback_t depth_limit(const std::string& where) {
  return [where](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    constexpr int kDeepest = 64;
    ENSURE(depth <= kDeepest, where, ": JSON nested deeper than ", kDeepest, " levels");
    return true;
  };
}

}  // namespace sluice
