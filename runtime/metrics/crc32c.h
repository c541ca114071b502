#pragma once

#include <cstdint>
#include <string_view>

namespace sluice {

/// CRC-32C (Castagnoli, reflected), as iSCSI and TensorBoard's records use it.
uint32_t crc32c(std::string_view bytes);

}  // namespace sluice
