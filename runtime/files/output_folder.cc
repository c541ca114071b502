#include "runtime/files/output_folder.h"

#include <filesystem>

#include "kernels/core/error.h"
#include "runtime/files/output_file.h"

namespace sluice {

namespace fs = std::filesystem;

OutputFolder::OutputFolder(std::string path) : path_(std::move(path)) {
  std::error_code error;
  if (fs::exists(path_, error)) {
    ENSURE(fs::is_directory(path_, error), path_, ": is there and not a folder; choose another name");
    const bool empty = fs::is_empty(path_, error);
    ENSURE(!error, path_, ": cannot be listed: ", error.message());
    ENSURE(empty, path_, ": is not empty; choose another folder, or empty it");
    return;
  }
  fs::create_directories(path_, error);
  ENSURE(!error, path_, ": cannot be created: ", error.message());
  made_ = true;
}

OutputFolder::~OutputFolder() {
  if (kept_) return;
  std::error_code error;
  if (made_) {
    fs::remove_all(path_, error);
    return;
  }
  for (fs::directory_iterator entry(path_, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    fs::remove_all(entry->path(), ignored);
  }
}

void OutputFolder::keep() {
  sync_folder(fs::absolute(path_ + "/.").lexically_normal().parent_path().parent_path().string());
  kept_ = true;
}

void OutputFolder::write(std::string_view name, std::string_view text) const {
  OutputFile file(*this / name);
  file.write(text);
  file.commit();
}

}  // namespace sluice
