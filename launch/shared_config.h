#pragma once

#include <functional>

#include "configs/train.pb.h"
#include "launch/commands.h"

namespace sluice {

/// Rank 0 reads the configuration, applies overrides and checks it; every rank gets the same bytes, or all throw
/// AgreedError. Every rank calls it.
TrainConfig shared_config(Session& session, const ConfigOptions& options,
                          const std::function<void(TrainConfig&)>& check);

}  // namespace sluice
