#!/usr/bin/env bash
# Fuzzes one target from its corpus: all of it first, then what coverage leads to.
#   libfuzzer.sh PROGRAM SECONDS [FOLDER]   PROGRAM: build/fuzz/bin/fuzz_TARGET
# FOLDER keeps the inputs that cover more, and those that crash; without one they go.
set -euo pipefail
program=$1 seconds=$2
target=$(basename "$program")
corpus=$(cd "$(dirname "$0")" && pwd)/corpus/${target#fuzz_}
# Every input becomes a file, in memory where there is some.
work=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work TEST_TMPDIR=$work
found=${3:-$work/found}
mkdir -p "$found"
fuzz() { "$program" -max_len=16384 -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$found/" "$@"; }
fuzz -runs=0 "$corpus"
fuzz -max_total_time="$seconds" -print_final_stats=1 "$found" "$corpus"
