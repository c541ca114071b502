#!/usr/bin/env bash
# What a run always does beside training, as shares of its CPU time: measuring the update of each tensor, looking for values
# that are not finite and at attention, gates and routing, detectors and the agreement on signals. Needs perf (linux-perf).
#   tests/bench/always_on.sh [STEPS]     default: 50, of the quick start's configuration, on one core
# Exit code 1 when they are 1 % or more in all.
#   SLUICE   the program   default: build/cpu/bin/sluice
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
sluice=$(realpath "${SLUICE:-$source_dir/build/cpu/bin/sluice}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
find "$source_dir/kernels" "$source_dir/models" "$source_dir/runtime" -name '*.cc' | sort > documents
xargs -a documents "$sluice" data tokenizer --vocab 4096 --out tokenizer.json > log 2>&1 || { cat log; exit 1; }
xargs -a documents "$sluice" data build --tokenizer tokenizer.json --out data > log 2>&1 || { cat log; exit 1; }
perf record -q -o samples -F 999 -- "$sluice" train --config "$source_dir/configs/quickstart.textproto" --run run \
  --set training.steps="${1:-50}" --set cpu.threads=1 --set data.tokenizer=tokenizer.json --set data.eval_every=0 \
  --set 'data.train[0].prefix=data' --set 'data.eval[0].prefix=data' > log 2>&1 || { cat log; exit 1; }
# Every second step measures what it updates: that costs what those updates take more than the others.
perf report -i samples --stdio --no-children -g none --percent-limit 0 --sort symbol 2> log | awk '
  function add(name, share) { of[name] += share; all += share }
  /update<(true|false), true, true/ { add("the update of each tensor", $1); measured = 1 }
  /update<(true|false), true, false/ { add("the update of each tensor", -$1); plain = 1 }
  /max_abs/ { add("values that are not finite", $1) }
  /probability|score_sums|magnitude_sums|largest_element|raise_to_/ { add("attention, gates, residual", $1) }
  /Monitor|SpikeWatch|Indicators|StopAgreement/ { add("detectors, agreement on signals", $1) }
  END {
    if (!measured || !plain) { print "error: the symbols of the program were not found" > "/dev/stderr"; exit 1 }
    for (name in of) printf "%-32s %6.2f %%\n", name, of[name]
    printf "%-32s %6.2f %%\n", "in all", all
    exit all >= 1
  }'
