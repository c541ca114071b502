#include "parallel/parameter_record.h"

namespace sluice {

int64_t Box::count() const {
  int64_t n = 1;
  for (size_t i = 0; i < begin.size(); ++i) n *= begin[i] < end[i] ? end[i] - begin[i] : 0;
  return n;
}

int64_t ParameterRecord::global_count() const {
  int64_t n = 1;
  for (int64_t dim : global_shape) n *= dim;
  return n;
}

}  // namespace sluice
