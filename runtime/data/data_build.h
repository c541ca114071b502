#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/data/data_meta.h"

namespace sluice {

struct DataBuildOptions {
  std::string tokenizer;  ///< as load_tokenizer takes it
  std::string out;        ///< PREFIX
  double held_out_percent = 0;
  int workers = 0;  ///< 0: all cores
  std::vector<std::string> files;
};

struct DataBuildResult {
  DataMeta train, held_out;  ///< held_out.documents is 0 when no held-out set was asked for
  /// Files of an earlier build's held-out set, whose documents the training set now has.
  std::vector<std::string> removed;
};

/// Encodes text files to PREFIX.{bin,idx,meta.json,documents.txt} and, with a percentage, PREFIX.heldout.*, in the
/// order of the files; documents.txt lists the documents' identities, whatever the number of workers. A document is
/// held out by the hash of its identity (corpus.h). Without a percentage, PREFIX.heldout.* of an earlier build is
/// removed once the new set is there. The folder of PREFIX is created. Throws Error for bad input, and when either set
/// would be empty; no file appears then.
DataBuildResult build_data(const DataBuildOptions& options);

/// Whether a document belongs to the held-out `percent`.
bool is_held_out(const std::string& identity, double percent);

/// `workers`, or the number of cores if it is 0.
int worker_count(int workers);

}  // namespace sluice
