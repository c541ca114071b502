#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace sluice {

/// Whose mistake an Error is; decides the exit code of the program (parallel/fatal.h).
enum class Fault {
  kUser,       ///< configuration, command line, files
  kDamage,     ///< a file that is not what was written, whoever reads it and when
  kInternal,   ///< a defect of the program
  kHang,       ///< a rank that does not answer, or ranks that are out of step
  kDiverged,   ///< a run that is lost: updates that stay out of line, or spikes that come again
  kNotSaved,   ///< all is done, but a checkpoint could not be written
  kPreempted,  ///< nobody's: a signal has asked to stop, and all that was done is saved
};

/// Whether the program met something wrong, rather than did it.
constexpr bool is_from_outside(Fault fault) { return fault == Fault::kUser || fault == Fault::kDamage; }

/// The one exception of the project. `what()` is the message alone; the place it was thrown at is kept beside it.
class Error : public std::runtime_error {
 public:
  Error(const std::string& message, const char* file, int line, Fault fault = Fault::kUser)
      : std::runtime_error(message), file_(file), line_(line), fault_(fault) {}

  const char* file() const { return file_; }
  int line() const { return line_; }
  Fault fault() const { return fault_; }

 private:
  const char* file_;
  int line_;
  Fault fault_;
};

/// Concatenates anything that streams into one string.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace sluice

/// Throws Error when `cond` is false. The parts give what was expected, what was got, and the field or file to change.
#define ENSURE(cond, ...)                                                                  \
  do {                                                                                     \
    if (!(cond)) throw ::sluice::Error(::sluice::concat(__VA_ARGS__), __FILE__, __LINE__); \
  } while (false)

/// As ENSURE, for what shows that a file is damaged.
#define ENSURE_INTACT(cond, ...)                                                                                     \
  do {                                                                                                               \
    if (!(cond)) throw ::sluice::Error(::sluice::concat(__VA_ARGS__), __FILE__, __LINE__, ::sluice::Fault::kDamage); \
  } while (false)

/// As ENSURE, for what only a defect of the program can break (shapes between kernels, a failed library call).
#define INVARIANT(cond, ...)                                                                                           \
  do {                                                                                                                 \
    if (!(cond)) throw ::sluice::Error(::sluice::concat(__VA_ARGS__), __FILE__, __LINE__, ::sluice::Fault::kInternal); \
  } while (false)
