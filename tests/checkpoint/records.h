#pragma once

#include <string>
#include <vector>

#include "parallel/parameter_record.h"

namespace sluice {

inline Tensor view(std::vector<float>& values) {
  return {values.data(), DType::kF32, Device::kCpu, {static_cast<int64_t>(values.size())}};
}

/// Of a whole parameter.
inline ParameterRecord record(const std::string& name, const std::vector<int64_t>& shape, int64_t flat_begin) {
  ParameterRecord r;
  r.name = name;
  r.global_shape = shape;
  r.boxes = {{std::vector<int64_t>(shape.size(), 0), shape}};
  r.count = r.global_count();
  r.flat_begin = flat_begin;
  return r;
}

}  // namespace sluice
