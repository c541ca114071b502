#pragma once

#include <string_view>

namespace sluice {

/// Instruction sets that kernels/cpu is built for; the numbers of a run repeat on one of them only.
enum class Isa : unsigned char {
  kPortable,  ///< baseline x86-64
  kAvx2,      ///< x86-64-v3: AVX2 and FMA
  kAvx512,    ///< x86-64-v4: AVX-512 F, BW, CD, DQ, VL
};

/// Name in the schema (`cpu.isa`) and in manifests: "portable", "avx2", "avx512".
const char* isa_name(Isa isa);
/// Whether this processor runs it.
bool isa_supported(Isa isa);
/// The best supported one.
Isa best_isa();
/// Parses `cpu.isa`: a name of isa_name, or "auto" for best_isa. Throws Error on another name or an unsupported set.
Isa parse_isa(std::string_view name);

}  // namespace sluice
