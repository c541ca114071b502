#include <cstdio>

#include "launch/commands.h"
#include "launch/loaded_model.h"
#include "runtime/generate.h"

namespace sluice {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 20;

}  // namespace

void run_generate(const GenerateCommandOptions& options, Session& session) {
  ENSURE(options.tokens >= 1 && options.tokens <= kMostTokens, "--tokens ", options.tokens, " must be between 1 and ",
         kMostTokens);
  ENSURE(options.temperature >= 0, "--temperature ", options.temperature, " must not be negative");
  LoadedModel loaded(options.checkpoint, session);
  const Tokenizer& tokenizer = loaded.tokenizer();
  std::vector<int32_t> prompt = tokenizer.encode(options.prompt);
  // A document begins after another one's end.
  if (prompt.empty()) prompt.push_back(tokenizer.eod());
  const Transformer transformer = loaded.make_transformer(static_cast<int64_t>(prompt.size()) + options.tokens);

  GenerateOptions generate_options;
  generate_options.tokens = options.tokens;
  generate_options.temperature = options.temperature;
  generate_options.seed = options.seed;
  generate_options.end_token = tokenizer.eod();
  generate_options.drawable = tokenizer.present();
  const bool prints = session.world().rank() == 0;
  if (prints) std::fputs(options.prompt.c_str(), stdout);
  generate(loaded.stream(), loaded.mesh(), transformer, loaded.weights(), prompt, generate_options, [&](int32_t id) {
    if (!prints || id == tokenizer.eod()) return;
    const std::string text = tokenizer.decode({&id, 1});
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  });
  if (prints) std::fputc('\n', stdout);
}

}  // namespace sluice
