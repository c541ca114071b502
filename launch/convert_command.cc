#include "launch/convert_command.h"

#include <optional>

#include <fmt/format.h>
#include <glog/logging.h>

#include "kernels/core/error.h"
#include "runtime/convert/export.h"
#include "runtime/convert/import.h"

namespace sluice {
namespace {

constexpr const char* kOurs = "sluice";

/// Empty for our own format.
std::optional<HuggingFaceFormat> parse_format(const std::string& name) {
  if (name == kOurs) return std::nullopt;
  for (const HuggingFaceFormat format : {HuggingFaceFormat::kQwen3Moe, HuggingFaceFormat::kQwen3Gated}) {
    if (name == format_name(format)) return format;
  }
  ENSURE(false, "--format ", name, ": expected qwen3_moe, qwen3_gated or sluice");
  return std::nullopt;
}

}  // namespace

void run_checkpoint_export(const ConvertOptions& options) {
  const std::optional<HuggingFaceFormat> format = parse_format(options.format);
  const ExportSummary summary =
      format ? export_hugging_face({.step_dir = options.from, .out_dir = options.to, .format = *format})
             : export_weights(options.from, options.to);
  if (!summary.has_tokenizer) {
    LOG(WARNING) << options.to << " holds no tokenizer: the checkpoint has none that is a tokenizer.json";
  }
  fmt::print("exported {} parameters, {} bytes in {} file(s), to {}\n", summary.parameters, summary.bytes,
             summary.files, options.to);
}

void run_checkpoint_import(const ConvertOptions& options) {
  const std::optional<HuggingFaceFormat> format = parse_format(options.format);
  // The same step folder from either side.
  if (!format) return run_checkpoint_export(options);
  const ImportSummary summary = import_hugging_face(options.from, options.to, *format);
  for (const std::string& key : summary.ignored_keys) {
    LOG(WARNING) << options.from << "/config.json: " << key << " is not known here and was ignored";
  }
  if (!summary.has_tokenizer) LOG(WARNING) << options.from << " holds no tokenizer.json; the checkpoint has none";
  fmt::print("imported {} parameters to {}\n", summary.parameters, options.to);
}

}  // namespace sluice
