#!/usr/bin/env bash
# Checks who includes what in a source tree, and prints file:line and the rule for each break.
#   include_check.sh ROOT
set -euo pipefail
cd "$1"
find . -path ./build -prune -o \( -name '*.h' -o -name '*.cc' -o -name '*.cu' \) -print | sed 's|^\./||' | sort |
while read -r file; do
  case $file in
    *.h) grep -q '^#pragma once' "$file" || echo "$file:1: a header needs #pragma once" ;;
  esac
  awk -v file="$file" '
    function report(rule) { print file ":" FNR ": " rule }
    BEGIN {
      split("kernels parallel models runtime launch", order, " ")
      for (i in order) level[order[i]] = i
      folder = file; sub(/\/.*/, "", folder)
    }
    /^[ \t]*#[ \t]*include/ {
      name = $0; sub(/^[ \t]*#[ \t]*include[ \t]*[<"]/, "", name); sub(/[>"].*/, "", name)
      quoted = $0 ~ /include[ \t]*"/
      if (name == "mpi.h" && file !~ /^(parallel\/mpi_|tests\/distributed\/)/ && file != "launch/main.cc") report("mpi.h belongs to parallel/mpi_*")
      if (name == "nccl.h" && file !~ /^parallel\/nccl_/) report("nccl.h belongs to parallel/nccl_*")
      if (name == "cblas.h" && file !~ /^kernels\/cpu\//) report("cblas.h belongs to kernels/cpu")
      if (name ~ /^(cuda|cublas)[A-Za-z_0-9]*\.h$/ && file !~ /^kernels\/cuda\// && file !~ /^kernels\/core\/[a-z_]*_cuda\./ &&
          file !~ /^parallel\/nccl_/) report("CUDA headers belong to kernels/cuda")
      if (!quoted) next
      top = name; sub(/\/.*/, "", top)
      if (top == "configs") {
        if (folder == "kernels" || folder == "parallel") report(folder " must not know configs")
      } else if (top == "tests") {
        if (folder != "tests") report("nothing uses tests")
      } else if (!(top in level)) {
        report("project includes start at the root of the tree")
      } else if (folder in level && level[top] > level[folder]) {
        report(folder " must not know " top)
      } else if (folder == "configs") {
        report("configs must not know anything else")
      }
    }' "$file"
done > "${TMPDIR:-/tmp}/include_check.$$"
breaks=$(wc -l < "${TMPDIR:-/tmp}/include_check.$$")
cat "${TMPDIR:-/tmp}/include_check.$$"
rm -f "${TMPDIR:-/tmp}/include_check.$$"
[ "$breaks" -eq 0 ]
