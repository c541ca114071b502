#include "launch/shared_config.h"

#include "parallel/agree.h"
#include "runtime/config.h"

namespace sluice {

TrainConfig shared_config(Session& session, const ConfigOptions& options,
                          const std::function<void(TrainConfig&)>& check) {
  ProcessGroup& world = session.world();
  std::string bytes;
  agree(world, [&] {
    if (world.rank() != 0) return;
    TrainConfig config = load_config(options.file, options.overrides);
    check(config);
    INVARIANT(config.SerializeToString(&bytes), "the configuration cannot be serialised");
  });
  TrainConfig config;
  INVARIANT(config.ParseFromString(broadcast_string(world, bytes)), "the configuration arrived damaged");
  return config;
}

}  // namespace sluice
