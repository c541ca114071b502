#include "launch/study/cell_book.h"

#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/output_file.h"

namespace sluice {
namespace {

constexpr std::pair<CellState::Outcome, const char*> kOutcomes[] = {
    {CellState::Outcome::kNone, "none"},
    {CellState::Outcome::kDone, "done"},
    {CellState::Outcome::kDiverged, "diverged"},
    {CellState::Outcome::kFailed, "failed"},
};

CellState parse_state(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  CellState state;
  const auto name = json.at("outcome").get<std::string>();
  bool known = false;
  for (const auto& [outcome, text_of] : kOutcomes) {
    if (name != text_of) continue;
    state.outcome = outcome;
    known = true;
  }
  ENSURE(known, "unknown outcome \"", name, "\"");
  state.reason = json.at("reason").get<std::string>();
  state.starts = json.at("starts").get<int64_t>();
  state.vain_starts = json.at("vain_starts").get<int64_t>();
  state.checkpoint = json.at("checkpoint").get<int64_t>();
  state.seconds = json.at("seconds").get<double>();
  return state;
}

}  // namespace

const char* name_of(CellState::Outcome outcome) {
  for (const auto& [each, name] : kOutcomes) {
    if (each == outcome) return name;
  }
  return "?";
}

CellBook::CellBook(std::string folder) : folder_(std::move(folder)) {
  for (const char* part : {"/cells", "/claims"}) {
    std::error_code error;
    std::filesystem::create_directories(folder_ + part, error);
    ENSURE(!error, "--run ", folder_, ": ", part + 1, "/ cannot be created: ", error.message());
  }
  users_.emplace(folder_ + "/claims/.users");
  ENSURE(users_->take_shared() != FileLock::Result::kNotSupported, "--run ", folder_,
         ": files cannot be locked there, which keeps ranks from taking the same cell: ", users_->problem(),
         "; choose a folder on another file system");
}

CellState CellBook::state(const std::string& cell) const {
  const std::string path = run_dir(cell) + "/cell.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return {};
  try {
    return parse_state(std::string(MappedFile(path).bytes()));
  } catch (const std::exception& problem) {
    ENSURE(false, path, ": ", problem.what(), "; remove it to have the cell go on from its checkpoint");
  }
  return {};
}

void CellBook::set_state(const std::string& cell, const CellState& state) const {
  const nlohmann::ordered_json json = {
      {"outcome", name_of(state.outcome)}, {"reason", state.reason},         {"starts", state.starts},
      {"vain_starts", state.vain_starts},  {"checkpoint", state.checkpoint}, {"seconds", state.seconds}};
  std::filesystem::create_directories(run_dir(cell));
  OutputFile file(run_dir(cell) + "/cell.json");
  file.write(json.dump() + "\n");
  file.commit();
}

std::unique_ptr<FileLock> CellBook::claim(const std::string& cell) const {
  auto lock = std::make_unique<FileLock>(folder_ + "/claims/" + cell);
  return lock->take() == FileLock::Result::kTaken ? std::move(lock) : nullptr;
}

}  // namespace sluice
