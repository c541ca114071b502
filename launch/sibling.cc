#include "launch/sibling.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <unistd.h>

#include "kernels/core/error.h"

namespace sluice {

void become_sibling(const std::string& program, const std::vector<std::string>& arguments) {
  std::error_code error;
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string path = (own.parent_path() / program).string();
  std::vector<char*> words = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  execv(path.c_str(), words.data());
  throw Error(concat(path, ": cannot be started: ", std::strerror(errno),
                     "; it is built where Ceres is installed (launch/setup.sh --studies), and belongs beside sluice"),
              __FILE__, __LINE__, Fault::kUser);
}

}  // namespace sluice
