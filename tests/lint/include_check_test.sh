#!/usr/bin/env bash
# The include check must find one break of each rule in a made-up tree, nothing else, and pass a clean one.
set -euo pipefail
check=$(cd "$(dirname "$0")" && pwd)/include_check.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{kernels/cpu,kernels/cuda,parallel,models,runtime,launch,tests}
put() { printf '%s\n' "${@:2}" > "$tree/$1"; }

put kernels/a.h '#pragma once' '#include <vector>'
put kernels/cpu/b.cc '#include <cblas.h>' '#include "kernels/a.h"'
put kernels/cuda/c.cu '#include <cuda_runtime.h>'
put parallel/mpi_group.cc '#include <mpi.h>' '#include "kernels/a.h"'
put models/m.cc '#include "configs/train.pb.h"' '#include "parallel/p.h"'
put tests/t.cc '#include "launch/x.h"' '#include "tests/y.h"'
bash "$check" "$tree" || { echo "error: the clean tree did not pass"; exit 1; }

put kernels/no_guard.h '#include <vector>'
put kernels/up.cc '' '#include "models/m.h"'
put kernels/config.cc '#include "configs/train.pb.h"'
put kernels/blas.cc '#include <cblas.h>'
put parallel/cuda.cc '#include <cuda_runtime.h>'
put models/mpi.cc '#include <mpi.h>'
put models/nccl.cc '#include <nccl.h>'
put runtime/test.cc '#include "tests/t.h"'
put launch/local.cc '#include "local.h"'
expected='kernels/blas.cc:1 kernels/config.cc:1 kernels/no_guard.h:1 kernels/up.cc:2 launch/local.cc:1 models/mpi.cc:1 models/nccl.cc:1 parallel/cuda.cc:1 runtime/test.cc:1'
found=$(bash "$check" "$tree" || true)
places=$(printf '%s\n' "$found" | sed -E 's/^([^:]+:[0-9]+):.*/\1/' | sort | tr '\n' ' ' | sed 's/ $//')
[ "$places" = "$expected" ] || { printf 'error: expected breaks at\n%s\nfound\n%s\n' "$expected" "$found"; exit 1; }
