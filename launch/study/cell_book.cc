#include "launch/study/cell_book.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/files/json_depth.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/output_file.h"

namespace sluice {
namespace {

constexpr const char* kListFile = "/cells.txt";

constexpr std::pair<CellState::Outcome, const char*> kOutcomes[] = {
    {CellState::Outcome::kNone, "none"},
    {CellState::Outcome::kDone, "done"},
    {CellState::Outcome::kDiverged, "diverged"},
    {CellState::Outcome::kFailed, "failed"},
};

CellState parse_state(const std::string& text, const std::string& path) {
  const nlohmann::json json = nlohmann::json::parse(text, depth_limit(path));
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

CellState read_cell_state(const std::string& path) {
  try {
    return parse_state(std::string(MappedFile(path).bytes()), path);
  } catch (const std::exception& problem) {
    ENSURE(false, path, ": ", problem.what(), "; remove it to have the cell go on from its checkpoint");
  }
  return {};
}

std::vector<std::string> cells_listed_in(const std::string& folder) {
  std::ifstream file(folder + kListFile);
  std::vector<std::string> cells;
  // Names that could lead out of the folder are not of a study.
  for (std::string cell; std::getline(file, cell);) {
    if (!cell.empty() && cell.find('/') == std::string::npos && cell.front() != '.') cells.push_back(cell);
  }
  return cells;
}

void CellBook::keep_study(std::string_view text, const std::vector<std::string>& cells) const {
  // Several jobs may begin at the same time.
  FileLock lock(folder_ + "/claims/.study");
  while (lock.take() == FileLock::Result::kElsewhere) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  OutputFile study(folder_ + "/study.textproto");
  study.write(text);
  study.commit();
  OutputFile list(folder_ + kListFile);
  for (const std::string& cell : cells) list.write(cell + "\n");
  list.commit();
}

CellState CellBook::state(const std::string& cell) const {
  const std::string path = run_dir(cell) + "/" + kCellFile;
  std::error_code error;
  return std::filesystem::exists(path, error) ? read_cell_state(path) : CellState{};
}

void CellBook::set_state(const std::string& cell, const CellState& state) const {
  const nlohmann::ordered_json json = {
      {"outcome", name_of(state.outcome)}, {"reason", state.reason},         {"starts", state.starts},
      {"vain_starts", state.vain_starts},  {"checkpoint", state.checkpoint}, {"seconds", state.seconds}};
  const std::string path = run_dir(cell) + "/" + kCellFile;
  create_parent_folder(path);
  OutputFile file(path);
  // A reason may name a file whose name is not UTF-8.
  file.write(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  file.commit();
}

std::unique_ptr<FileLock> CellBook::claim(const std::string& cell) const {
  auto lock = std::make_unique<FileLock>(folder_ + "/claims/" + cell);
  const FileLock::Result result = lock->take();
  ENSURE(result != FileLock::Result::kNotSupported, lock->path(), ": cannot be locked: ", lock->problem());
  return result == FileLock::Result::kTaken ? std::move(lock) : nullptr;
}

}  // namespace sluice
