#!/usr/bin/env bash
# What the diagnostics of a training run cost: instructions inside them as a share of those of all steps, counted by
# callgrind on the quick start's model and batch, with a logged step every 10 as by default.
#
#   tests/bench/diagnostics_cost.sh CONFIG.textproto [--set path=value ...]     needs valgrind; takes some minutes
#   SLUICE   the program, built with symbols        default: build/cpu/bin/sluice
#
# The configuration names data that exists. Exit code 1 when the share is 1 % or more.
set -euo pipefail
sluice=${SLUICE:-build/cpu/bin/sluice}
[[ $# -ge 1 ]] || { sed -n '2,8p' "$0" >&2; exit 1; }
command -v valgrind > /dev/null || { echo "diagnostics_cost.sh: valgrind is missing" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Every step is logged here, and has its diagnostics; valgrind has no AVX-512.
valgrind --tool=callgrind --callgrind-out-file="$work/out" "$sluice" train --config "$1" "${@:2}" --run "$work/run" \
  --set training.steps=2 --set optimizer.warmup_steps=0 --set logging.every=1 --set cpu.isa=avx2 --set cpu.threads=1 --set data.eval= \
  > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
callgrind_annotate --inclusive=yes --threshold=100 "$work/out" > "$work/functions"

# instructions NAME: inclusive, of a function.
instructions() {
  local count
  count=$(grep -F "$1" "$work/functions" | head -n 1 | sed -E 's/^ *([0-9,]+).*/\1/; s/,//g')
  [[ $count =~ ^[0-9]+$ ]] || { echo "diagnostics_cost.sh: no function $1 in the profile" >&2; return 1; }
  echo "$count"
}
step=$(instructions 'TrainStep::run(')
blocks=$(instructions 'DiagnosticsProbe::see_block(')
finish=$(instructions 'DiagnosticsProbe::finish(')
awk -v step="$step" -v blocks="$blocks" -v finish="$finish" 'BEGIN {
  share = (blocks + finish) / step
  printf "instructions of a step %.4g, of its diagnostics %.4g: %.2f %% of a logged step, %.3f %% of every step\n",
    step / 2, (blocks + finish) / 2, 100 * share, 10 * share
  exit share / 10 >= 0.01
}'
