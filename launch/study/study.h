#pragma once

#include <string>
#include <utility>
#include <vector>

#include "configs/study.pb.h"
#include "configs/train.pb.h"

namespace sluice {

/// One run of a study.
struct Cell {
  std::string name;                                          ///< of its folder: lr=0.001,gate=headwise,seed=2
  std::vector<std::pair<std::string, std::string>> choices;  ///< of each axis its name and value, then of the seed
  TrainConfig config;                                        ///< not validated
};

/// Reads a study in text format. Throws Error with every problem, naming the file and the field.
Study load_study(const std::string& file);

/// Every combination, with its configuration. Throws Error naming the cell whose configuration cannot be read, or two
/// of one name.
///   file  the study's, at whose folder the path of its configuration begins
std::vector<Cell> cells_of(const Study& study, const std::string& file);

}  // namespace sluice
