#include <filesystem>
#include <map>
#include <set>

#include <gmock/gmock.h>

#include "kernels/elementwise.h"
#include "tests/verify/layouts.h"

// Every reduction of the training step, made wrong in every way, must show in the certificate.
namespace sluice {
namespace {

enum class Wrong { kDropped, kDoubled, kScaled };
const char* text(Wrong wrong) {
  return wrong == Wrong::kDropped ? "dropped" : wrong == Wrong::kDoubled ? "doubled" : "scaled";
}

/// "group.operation at file:line", what tells one reduction from another.
std::string place(const GroupCall& call) {
  return concat(call.group.name(), ".", call.operation, " at ",
                std::filesystem::path(call.site.file_name()).filename().string(), ":", call.site.line());
}

bool is(const GroupCall& call, const char* operation) { return std::string_view(call.operation) == operation; }

/// Reductions, and exchanges whose rows are summed afterwards.
bool reduces(const GroupCall& call) {
  const bool sum = is(call, "all_reduce") || is(call, "reduce_scatter");
  const bool rows = (is(call, "all_to_all") || is(call, "all_gather")) && call.out.dtype == DType::kF64;
  return call.group.size() > 1 && (sum || rows);
}

/// Lists reductions.
class Lister : public GroupObserver {
 public:
  void before(const GroupCall&) override {}
  void after(const GroupCall& call) override {
    if (reduces(call)) places.insert(place(call));
  }
  std::set<std::string> places;
};

/// Makes one call wrong on this rank: a sum is what this rank put in, twice what it should be, or 0.9 of it; of an
/// exchange nothing arrives, or twice that, or 0.9 of it.
class Saboteur : public GroupObserver {
 public:
  Saboteur(std::string place, Wrong wrong) : place_(std::move(place)), wrong_(wrong) {}

  void before(const GroupCall& call) override {
    if (!hits(call) || !(is(call, "all_reduce") || is(call, "reduce_scatter"))) return;
    const Tensor own = call.out.data == call.in.data ? call.in : part(call);
    const char* bytes = static_cast<const char*>(own.data);
    own_.assign(bytes, bytes + own.bytes());
  }
  void after(const GroupCall& call) override {
    if (!hits(call)) return;
    if (wrong_ == Wrong::kDropped && !own_.empty()) {
      return static_cast<void>(std::memcpy(call.out.data, own_.data(), own_.size()));
    }
    const double factor = wrong_ == Wrong::kDropped ? 0 : wrong_ == Wrong::kDoubled ? 2 : 0.9;
    if (call.out.dtype == DType::kI64) {
      for (int64_t i = 0; i < call.out.count(); ++i) {
        int64_t& count = call.out.as<int64_t>()[i];
        count = wrong_ == Wrong::kDoubled ? 2 * count : count + 1;
      }
      return;
    }
    for (int64_t i = 0; i < call.out.count(); ++i) call.out.as<double>()[i] *= factor;
  }

 private:
  bool hits(const GroupCall& call) const { return reduces(call) && place(call) == place_; }
  /// The block of a reduce_scatter's input that would be this rank's result.
  static Tensor part(const GroupCall& call) {
    return call.in.reshaped({call.in.count()}).rows(call.group.rank() * call.out.count(), call.out.count());
  }

  const std::string place_;
  const Wrong wrong_;
  std::vector<char> own_;
};

/// verify_layout on threads, each rank under an observer of its own.
template <class MakeObserver>
Certificate verify_observed(const TrainConfig& config, const MakeObserver& make) {
  Certificate certificate;
  run_ranks(mesh_shape(config).world(), [&](ProcessGroup& world) {
    ThreadPool pool(1);
    Stream s{Device::kCpu, best_isa(), &pool};
    const std::unique_ptr<GroupObserver> observer = make(world.rank());
    EvidenceOptions options;
    options.observer = observer.get();
    Certificate own = verify_layout(config, world, s, options);
    if (world.rank() == 0) certificate = std::move(own);
  });
  return certificate;
}

/// Layouts that together contain every reduction.
std::vector<Layout> layouts_with_all_reductions() {
  std::vector<Layout> layouts;
  for (int zero : {0, 1, 2}) {
    for (const char* scope : {"MICRO_STEP", "GROUP"}) {
      Layout& l = layouts.emplace_back();
      l.dp = 2, l.tp = 4, l.ep = 2, l.accumulation = 2, l.zero = zero, l.scope = scope;
    }
    Layout& shared = layouts.emplace_back();
    shared.dp = 4, shared.ep = 2, shared.etp = 2, shared.budget = 0.3, shared.zero = zero;
    Layout& dense = layouts.emplace_back();
    dense.dp = 2, dense.tp = 2, dense.moe = false, dense.zero = zero;
  }
  Layout& gates = layouts.emplace_back();
  gates.tp = 4, gates.moe = false, gates.gate = "ALL";
  return layouts;
}

/// Of the mutations every third, which meets each reduction and each kind; all with SLUICE_MUTATIONS=all.
int mutation_stride() {
  const char* wanted = std::getenv("SLUICE_MUTATIONS");
  return wanted && std::string_view(wanted) == "all" ? 1 : 3;
}

TEST(Mutation, EveryWrongReductionIsCaught) {
  std::map<std::string, TrainConfig> reductions;
  for (const Layout& layout : layouts_with_all_reductions()) {
    const TrainConfig config = layout_config(layout);
    Lister lister;
    const Certificate certificate = verify_on_threads(config, &lister);
    ASSERT_TRUE(certificate.equal()) << layout_text(layout);
    for (const std::string& place : lister.places) reductions.emplace(place, config);
  }
  EXPECT_EQ(reductions.size(), 43u) << "README.md lists them";
  int mutations = 0, next = 0;
  for (const auto& [place, config] : reductions) {
    // On all ranks, and on one alone that is not the first.
    for (const auto& [wrong, only] : {std::pair{Wrong::kDropped, -1},
                                      {Wrong::kDoubled, -1},
                                      {Wrong::kScaled, -1},
                                      {Wrong::kDropped, 1},
                                      {Wrong::kScaled, 1}}) {
      if (next++ % mutation_stride() != 0) continue;
      ++mutations;
      Certificate certificate;
      try {
        certificate = verify_observed(config, [&, wrong = wrong, only = only](int rank) {
          return only < 0 || rank == only ? std::make_unique<Saboteur>(place, wrong) : nullptr;
        });
      } catch (const Error& error) {
        // The model itself notices that counts do not add up.
        EXPECT_THAT(error.what(), testing::HasSubstr("experts of a group were chosen")) << place << " " << text(wrong);
        std::printf("%-55s %-8s error: %s\n", place.c_str(), text(wrong), error.what());
        continue;
      }
      const Comparison* different = certificate.first_difference();
      EXPECT_TRUE(different) << place << " " << text(wrong) << " went unnoticed";
      if (different) {
        EXPECT_NE(different->after, "") << place << " " << text(wrong);
        const bool reducer = place.find("gradient_reducer.cc") != std::string::npos;
        EXPECT_TRUE(!reducer || different->after == place) << place << ": after " << different->after;
        std::printf("%-55s %-8s %s: %.1e after %s\n", place.c_str(), text(wrong), different->name.c_str(),
                    different->error, different->after.c_str());
      }
    }
  }
  std::printf("%zu reductions, %d mutations\n", reductions.size(), mutations);
}

}  // namespace
}  // namespace sluice
