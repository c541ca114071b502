#include "launch/checkpoint_command.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/checkpoint/diff.h"
#include "runtime/checkpoint/reshard.h"
#include "runtime/checkpoint/stored_tensors.h"
#include "runtime/checkpoint/verify.h"
#include "runtime/checkpoint_list.h"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

void print_json(const Json& json) { fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace)); }

/// 2026-01-31T12:00:00Z.
std::string time_text(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

const char* state_name(ListedCheckpoint::State state) {
  static constexpr const char* kNames[] = {"good", "unfinished", "damaged", "set aside", "replaced", "other"};
  return kNames[state];
}

Json listed_json(const ListedCheckpoint& listed) {
  Json json = {{"folder", listed.folder}, {"state", state_name(listed.state)}};
  if (!listed.problem.empty()) json["problem"] = listed.problem;
  if (listed.step >= 0) json["step"] = listed.step;
  json["bytes"] = listed.bytes;
  if (const auto& contents = listed.contents) {
    const MeshConfig& mesh = contents->mesh;
    json["ranks"] = contents->ranks;
    json["shards"] = contents->shards;
    json["layout"] = {{"dp", mesh.dp()},
                      {"tp", mesh.tp()},
                      {"ep", mesh.ep()},
                      {"etp", mesh.etp()},
                      {"zero_stage", contents->zero_stage}};
    json["parameters"] = contents->parameters;
  }
  json["written"] = time_text(listed.written);
  return json;
}

void print_listed(const ListedCheckpoint& listed) {
  std::string ranks, shards, layout, parameters;
  if (const auto& contents = listed.contents) {
    const MeshConfig& mesh = contents->mesh;
    ranks = std::to_string(contents->ranks);
    shards = std::to_string(contents->shards);
    layout = fmt::format("dp {} tp {} ep {} etp {} ZeRO {}", mesh.dp(), mesh.tp(), mesh.ep(), mesh.etp(),
                         contents->zero_stage);
    parameters = std::to_string(contents->parameters);
  }
  fmt::print("{:<24} {:<10} {:>9} {:>15} {:>6} {:>6}  {:<30} {:>14}  {}\n", listed.folder, state_name(listed.state),
             listed.step >= 0 ? std::to_string(listed.step) : "", listed.bytes, ranks, shards, layout, parameters,
             time_text(listed.written));
  if (!listed.problem.empty()) fmt::print("  {}\n", listed.problem);
}

const char* finding_name(TensorDifference::Finding finding) {
  static constexpr const char* kNames[] = {"equal", "differs", "other type", "other shape", "only in A", "only in B"};
  return kNames[finding];
}

/// Without numbers that were not measured; what is not finite is null.
Json difference_json(const TensorDifference& difference) {
  Json json = {{"name", difference.name},
               {"kind", Piece::Kind_Name(difference.kind)},
               {"finding", finding_name(difference.finding)}};
  if (difference.finding == TensorDifference::kOtherShape) {
    json["shape_a"] = difference.shape_a;
    json["shape_b"] = difference.shape_b;
  }
  if (difference.finding == TensorDifference::kDiffers) {
    json["elements"] = difference.elements;
    json["differing"] = difference.differing;
    json["max_abs_difference"] = difference.max_abs_difference;
    json["relative"] = difference.relative;
    json["at"] = difference.at;
    json["a"] = difference.a;
    json["b"] = difference.b;
  }
  return json;
}

int64_t equal_tensors(const CheckpointDifference& difference) {
  return std::ranges::count(difference.tensors, TensorDifference::kEqual, &TensorDifference::finding);
}

Json diff_json(const CheckpointDiffOptions& options, const CheckpointDifference& difference) {
  Json json = {{"a", options.a},
               {"b", options.b},
               {"equal", difference.equal()},
               {"tensors_equal", difference.tensors_equal()},
               {"compared", difference.tensors.size()},
               {"others", difference.others},
               {"differences", Json::array()}};
  for (const TensorDifference& tensor : difference.tensors) {
    if (tensor.finding != TensorDifference::kEqual) json["differences"].push_back(difference_json(tensor));
  }
  return json;
}

void print_difference(const TensorDifference& d) {
  fmt::print("{:<56} {:<7} {:<11}", d.name, Piece::Kind_Name(d.kind), finding_name(d.finding));
  if (d.finding == TensorDifference::kOtherShape) {
    fmt::print(" {} and {}", shape_text(d.shape_a), shape_text(d.shape_b));
  } else if (d.finding == TensorDifference::kDiffers) {
    fmt::print(" {:>13} {:>12.4e} {:>12.4e} at {}: {:.9g} and {:.9g}", d.differing, d.max_abs_difference, d.relative,
               shape_text(d.at), d.a, d.b);
  }
  fmt::print("\n");
}

void print_diff(const CheckpointDifference& difference) {
  const auto compared = static_cast<int64_t>(difference.tensors.size()), equal = equal_tensors(difference);
  if (equal < compared) {
    fmt::print("{:<56} {:<7} {:<11} {:>13} {:>12} {:>12}\n", "parameter", "kind", "finding", "differing", "max |a-b|",
               "/ max |a|");
  }
  for (const TensorDifference& tensor : difference.tensors) {
    if (tensor.finding != TensorDifference::kEqual) print_difference(tensor);
  }
  for (const std::string& other : difference.others) fmt::print("{}\n", other);
  fmt::print("{}: {} of {} weights and moments are equal to the last bit, {} other differences\n",
             difference.equal() ? "equal" : "different", equal, compared, difference.others.size());
}

}  // namespace

void run_checkpoint_list(const CheckpointListOptions& options) {
  const std::vector<ListedCheckpoint> checkpoints = list_checkpoints(options.run_dir);
  if (options.json) {
    Json json = {{"run", options.run_dir}, {"checkpoints", Json::array()}};
    for (const ListedCheckpoint& listed : checkpoints) json["checkpoints"].push_back(listed_json(listed));
    print_json(json);
    return;
  }
  fmt::print("{:<24} {:<10} {:>9} {:>15} {:>6} {:>6}  {:<30} {:>14}  {}\n", "checkpoint", "state", "step", "bytes",
             "ranks", "shards", "layout", "parameters", "written");
  for (const ListedCheckpoint& listed : checkpoints) print_listed(listed);
}

void run_checkpoint_verify(const CheckpointVerifyOptions& options) {
  const std::string& folder = options.checkpoint;
  const CheckpointVerification result =
      verify_checkpoint(folder, [&](const Manifest& manifest) { return saved_parameters(manifest, folder); });
  const bool good = result.problems.empty();
  if (options.json) {
    print_json({{"checkpoint", folder},
                {"good", good},
                {"files", result.files},
                {"bytes", result.bytes},
                {"pieces", result.pieces},
                {"problems", result.problems}});
  } else if (good) {
    fmt::print("{}: good; checked {} files, {} bytes, {} pieces\n", folder, result.files, result.bytes, result.pieces);
  } else {
    for (const std::string& problem : result.problems) fmt::print("{}\n", problem);
  }
  // Before the error, wherever the two go.
  std::fflush(stdout);
  ENSURE(good, folder, ": damaged, ", result.problems.size(), " problem(s), the first: ", result.problems.front());
}

void run_checkpoint_diff(const CheckpointDiffOptions& options) {
  const CheckpointDifference difference = diff_checkpoints(options.a, options.b);
  if (options.json) {
    print_json(diff_json(options, difference));
  } else {
    print_diff(difference);
  }
}

void run_checkpoint_reshard(const CheckpointReshardOptions& options) {
  const Manifest manifest = reshard_checkpoint(options.checkpoint, options.out, options.shards);
  int64_t bytes = 0;
  for (const ShardFile& shard : manifest.shards()) bytes += shard.bytes();
  fmt::print("{}: {} shards, {} bytes, {} pieces\n", options.out, manifest.shards_size(), bytes,
             manifest.pieces_size());
}

}  // namespace sluice
