#pragma once

#include <string>
#include <vector>

#include "configs/machine.pb.h"
#include "kernels/core/stream.h"

namespace sluice {

/// configs/machines.textproto as it was when the program was built.
const char* machines_text();

/// Names that find_machine() knows.
std::vector<std::string> machine_names();
/// Throws Error on a name that is not known, with those that are.
Machine find_machine(const std::string& name);

/// How long ops take, in seconds.
class OpSpeed {
 public:
  virtual ~OpSpeed() = default;
  virtual double seconds(const OpCost& cost) const = 0;
};

/// The roofline of a machine: an op takes as long as its operations or its bytes, whichever are longer.
class Roofline : public OpSpeed {
 public:
  Roofline(const Machine& machine, DType dtype) : machine_(machine), dtype_(dtype) {}
  double seconds(const OpCost& cost) const override;

 private:
  const Machine machine_;
  const DType dtype_;
};

}  // namespace sluice
