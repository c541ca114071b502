#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "launch/commands.h"
#include "launch/shared_config.h"
#include "parallel/agree.h"
#include "parallel/thread_group.h"
#include "runtime/validate.h"
#include "runtime/verify/certificate.h"
#include "runtime/verify/shrink.h"

namespace sluice {
namespace {

constexpr int kMostThreadRanks = 64;

/// Comparisons of one kind, as a line of the table.
struct Kind {
  const char* name;
  const char* prefix;  ///< of the comparisons' names; empty: all that no other kind takes
};
constexpr Kind kKinds[] = {{"residual stream and its gradient", "micro-step "},
                           {"losses, counts, norms, clip factors", "step "},
                           {"parameter gradients", "gradient of "},
                           {"equal copies of parameters", "copies of "},
                           {"parameters after 3 steps", ""}};

const Kind& kind_of(const Comparison& comparison) {
  for (const Kind& kind : kKinds) {
    if (comparison.name.rfind(kind.prefix, 0) == 0) return kind;
  }
  return kKinds[0];
}

void print_table(const Certificate& certificate) {
  fmt::print("{:<38} {:>9} {:>10} {:>15}\n", "compared with one rank, in f64", "tensors", "different", "largest error");
  for (const Kind& kind : kKinds) {
    int64_t all = 0, different = 0;
    double largest = 0;
    for (const Comparison& c : certificate.comparisons) {
      if (&kind_of(c) != &kind) continue;
      ++all;
      different += !c.equal;
      largest = std::max(largest, c.error);
    }
    if (all > 0) fmt::print("{:<38} {:>9} {:>10} {:>15.1e}\n", kind.name, all, different, largest);
  }
}

std::string description(const Comparison& c) {
  const std::string after = c.after.empty() ? "" : ", after " + c.after;
  return fmt::format("{} differs by {:.1e} of its norm (rounding explains {:.1e}){}", c.name, c.error, c.limit, after);
}

void print_json(const TrainConfig& config, const Certificate& certificate, const std::string& changes) {
  nlohmann::ordered_json out;
  const MeshShape mesh = mesh_shape(config);
  out["equal"] = certificate.equal();
  out["mesh"] = {{"dp", mesh.dp}, {"tp", mesh.tp}, {"edp", mesh.edp()}, {"ep", mesh.ep}, {"etp", mesh.etp}};
  out["shrunk"] = nlohmann::ordered_json::array();
  for (size_t begin = 0, end = 0; begin < changes.size(); begin = end + 1) {
    end = changes.find('\n', begin);
    out["shrunk"].push_back(changes.substr(begin, end - begin));
  }
  out["comparisons"] = nlohmann::ordered_json::array();
  for (const Comparison& c : certificate.comparisons) {
    out["comparisons"].push_back(
        {{"name", c.name}, {"error", c.error}, {"limit", c.limit}, {"equal", c.equal}, {"after", c.after}});
  }
  if (const Comparison* first = certificate.first_difference()) out["first_difference"] = first->name;
  fmt::print("{}\n", out.dump());
}

/// The whole of it on one of the ranks; rank 0 prints. Every rank throws when the layouts differ.
void verify(const VerifyOptions& options, const TrainConfig& config, const std::string& changes, ProcessGroup& world) {
  ThreadPool pool(1);
  Stream s;
  s.isa = parse_isa(config.cpu().isa());
  s.pool = &pool;
  const Certificate certificate = verify_layout(config, world, s);
  agree(world, [&] {
    if (world.rank() != 0) return;
    if (options.json) {
      print_json(config, certificate, changes);
    } else {
      fmt::print("{}", mesh_table(mesh_shape(config)));
      if (!changes.empty()) fmt::print("shrunk, every divisibility kept:\n{}", changes);
      print_table(certificate);
    }
    std::fflush(stdout);
    const Comparison* first = certificate.first_difference();
    ENSURE(!first,
           "this layout does not compute what one rank computes; first in the order of a step: ", description(*first));
  });
}

}  // namespace

void run_verify(const VerifyOptions& options, Session& session) {
  std::string changes;
  const bool launched = session.world().size() > 1;
  const TrainConfig config = shared_config(session, options.config, [&](TrainConfig& c) {
    if (!c.data().train_size()) c.mutable_data()->add_train()->set_prefix("unused");
    int64_t ranks = session.world().size();
    if (!launched) {
      ENSURE(c.mesh().dp() <= kMostThreadRanks && c.mesh().tp() >= 1 && c.mesh().tp() <= kMostThreadRanks,
             "without mpirun the ranks are threads, at most ", kMostThreadRanks, " of them");
      ranks = std::max<int64_t>(1, c.mesh().dp()) * c.mesh().tp();
      ENSURE(ranks <= kMostThreadRanks, "mesh.dp * mesh.tp = ", ranks,
             ": without mpirun the ranks are threads, at most ", kMostThreadRanks, " of them");
    }
    validate_training(c, static_cast<int>(ranks));
    changes = shrink_for_verification(c, static_cast<int>(ranks));
    validate_training(c, static_cast<int>(ranks));
  });
  if (launched) return verify(options, config, changes, session.world());
  run_ranks(mesh_shape(config).world(), [&](ProcessGroup& world) { verify(options, config, changes, world); });
}

}  // namespace sluice
