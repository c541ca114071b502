#include "parallel/mpi_session.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <thread>
#include <unistd.h>

#include "parallel/fatal.h"
#include "parallel/mpi_call.h"

namespace sluice {
namespace {

// Of the process, as MPI itself is.
std::atomic<bool> without_end{false}, fails_alone{false};

}  // namespace

int ranks_on_this_node() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_STEP_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return 0;
}

bool ranks_share_cores() { return ranks_on_this_node() > static_cast<int>(std::thread::hardware_concurrency()); }

std::string mpi_error_text(int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, static_cast<size_t>(length));
}

MpiSession::MpiSession() : exceptions_at_start_(std::uncaught_exceptions()) {
  // A rank that spins while it waits takes the core that another one needs: a thousand times slower.
  if (ranks_share_cores()) setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
  int provided = 0;
  MPI_CALL(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided));
  MPI_CALL(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  INVARIANT(provided >= MPI_THREAD_SERIALIZED, "MPI offers thread level ", provided, ", needed is ",
            MPI_THREAD_SERIALIZED);
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() == exceptions_at_start_ && !without_end) MPI_Finalize();
}

void end_without_mpi() { without_end = true; }

void fail_alone() { fails_alone = true; }

void fatal(int code, const char* text) {
  int initialized = 0, finalized = 0, rank = 0, size = 1;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  const bool with_mpi = initialized && !finalized;
  // The watchdog comes here while another thread sits in MPI, which only MPI_THREAD_MULTIPLE allows; that would slow
  // down every call. These two read what does not change, and after the abort nothing has to work any more.
  if (with_mpi) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(100 * std::min(rank, 20)));
  char host[64] = "?";
  gethostname(host, sizeof host - 1);
  if (size > 1) {
    std::fprintf(stderr, "[rank %d/%d %s] error: %s\n", rank, size, host, text);
  } else {
    std::fprintf(stderr, "error: %s\n", text);
  }
  std::fflush(stderr);
  // The abort may wait for a host that cannot be reached.
  static constexpr std::chrono::seconds kPatience(10);
  try {
    std::thread([code] {
      std::this_thread::sleep_for(kPatience);
      std::_Exit(code);
    }).detach();
  } catch (const std::exception&) {
    // There may be no memory for a thread.
  }
  if (with_mpi && !fails_alone) MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace sluice
