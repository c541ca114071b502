#pragma once

#include <cstdint>

namespace sluice {

/// Layout of a Megatron .idx, little endian: magic, u64 version, u8 dtype, u64 sequences, u64 document boundaries, then
/// i32 length [sequences], i64 byte offset [sequences], i64 document boundary [boundaries] (in sequences, from 0).
constexpr char kIndexMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
constexpr uint64_t kIndexVersion = 1;
constexpr int64_t kIndexHeaderBytes = 34;
constexpr uint8_t kIndexInt32 = 4;
constexpr uint8_t kIndexUint16 = 8;

/// Below this vocabulary size ids are stored as uint16, as Megatron does.
constexpr int64_t kUint16VocabLimit = 65500;

}  // namespace sluice
