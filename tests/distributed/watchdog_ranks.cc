// A job that goes wrong, for watchdog_test.sh: some training steps' worth of calls, in which one rank stops, skips a
// call or gets a count wrong.
//   watchdog_ranks FAULT CULPRIT SEED TRANSPORT DEADLINE

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/core/error.h"
#include "parallel/fatal.h"
#include "parallel/mpi_session.h"
#include "parallel/watch/watchdog.h"

namespace sluice {
namespace {

constexpr int kLayers = 6;
constexpr int kSteps = 40;
constexpr int64_t kTokens = 3000, kBucket = 70000;

struct Fault {
  std::string kind;  ///< stop, skip, count
  bool here = false;
  int64_t at = 0;  ///< of the calls where it may happen
};

/// The calls of steps, as a model makes them.
class Job {
 public:
  Job(const Mesh& mesh, Watchdog& watchdog, const Fault& fault) : mesh_(mesh), watchdog_(watchdog), fault_(fault) {}

  void step(int64_t step) {
    watchdog_.begin_step(step);
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      at(layer);
      gather(mesh_.tp());
      counts();
      exchange();
      reduce(mesh_.tp());
    }
    for (uint32_t layer = kLayers; layer-- > 0;) {
      at(layer);
      gather(mesh_.tp());
      reduce(mesh_.tp());
      bucket();
    }
    at(CallPublisher::kNowhere);
    call(1, [&](int64_t n) { mesh_.world().all_reduce(tensor(sums_, n)).wait(); });
  }

 private:
  static Tensor tensor(std::vector<double>& values, int64_t n) {
    values.resize(static_cast<size_t>(n));
    return {values.data(), DType::kF64, Device::kCpu, {n}};
  }

  void at(uint32_t place) {
    watchdog_.at(place);
    place_ = place == CallPublisher::kNowhere ? "step" : concat("layer ", place);
  }

  /// Calls body(count), wrongly if the fault's time has come.
  template <class Body>
  void call(int64_t count, const Body& body) {
    if (!fault_.here || calls_++ != fault_.at) return body(count);
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    std::fprintf(stderr, "fault at %ld ms, %s in call %ld, %s\n",
                 static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()),
                 fault_.kind.c_str(), static_cast<long>(fault_.at), place_.c_str());
    if (fault_.kind == "stop") std::raise(SIGSTOP);
    if (fault_.kind != "skip") body(fault_.kind == "count" ? count * 2 + 70000 : count);
  }

  void gather(ProcessGroup& group) {
    call(kTokens, [&](int64_t n) { group.all_gather(tensor(part_, n), tensor(all_, n * group.size())).wait(); });
  }
  void reduce(ProcessGroup& group) {
    call(kTokens, [&](int64_t n) { group.reduce_scatter(tensor(all_, n * group.size()), tensor(part_, n)).wait(); });
  }
  void bucket() {
    call(kBucket, [&](int64_t n) { mesh_.dp().all_reduce(tensor(bucket_, n)).wait(); });
  }
  void counts() {
    call(8, [&](int64_t n) {
      mesh_.experts().all_gather(tensor(part_, n), tensor(all_, n * mesh_.experts().size())).wait();
    });
  }
  void exchange() {
    call(100, [&](int64_t n) {
      std::vector<RowRun> runs;
      for (int r = 0; r < mesh_.experts().size(); ++r) runs.push_back({r, r * n, n});
      const int64_t all = n * mesh_.experts().size();
      mesh_.experts().all_to_all(tensor(part_, all), runs, tensor(all_, all), runs).wait();
    });
  }

  const Mesh& mesh_;
  Watchdog& watchdog_;
  const Fault fault_;
  int64_t calls_ = 0;
  std::string place_;
  std::vector<double> part_, all_, bucket_, sums_;
};

int run(char** argv) {
  MpiSession session;
  const std::unique_ptr<ProcessGroup> world =
      make_mpi_world(std::string(argv[4]) == "messages" ? MpiTransport::kMessages : MpiTransport::kAuto);
  Fault fault;
  fault.kind = argv[1];
  fault.here = world->rank() == std::atoi(argv[2]);
  // After the first step and anywhere in it.
  fault.at = 40 + std::atoi(argv[3]) * 7919 % 400;
  MeshShape shape;
  shape.tp = 2;
  shape.dp = world->size() / 2;
  shape.ep = world->size();
  const Mesh mesh(shape, *world);
  WatchdogOptions options;
  options.deadline_s = std::atof(argv[5]);
  for (int layer = 0; layer < kLayers; ++layer) options.places.push_back(concat("layer ", layer));
  options.report = [](const std::string& text) { fatal(exit_code(sluice::Fault::kHang), text.c_str()); };
  Watchdog watchdog(mesh, options);
  mesh.observe(&watchdog.observer());
  Job job(mesh, watchdog, fault);
  try {
    for (int64_t step = 1; step <= kSteps; ++step) job.step(step);
  } catch (const Error& error) {
    watchdog.await_verdict(error);
    fatal(exit_code(error.fault()), error.what());
  }
  mesh.observe(nullptr);
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int, char** argv) { return sluice::run(argv); }
