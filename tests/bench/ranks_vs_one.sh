#!/usr/bin/env bash
# Two ranks of one thread beside one rank of one thread, in turn, at the same global batch: dp=2 and ep=2, in tokens/s and
# as a share of twice the one rank. Experts are balanced by their selection bias first, as in a model that has trained; an
# untrained router sends up to three quarters of a layer's rows to one rank, which then is what one measures.
#
#   tests/bench/ranks_vs_one.sh [--rounds N]       default: 3; needs two cores that do nothing else
#   SLUICE   the program                           default: build/cpu/bin/sluice
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
sluice=${SLUICE:-build/cpu/bin/sluice}
rounds=3
[[ ${1:-} != --rounds ]] || rounds=$2

# speed RANKS CONFIG ARGUMENTS...: tokens/s.
speed() {
  local ranks=$1 config=$2
  shift 2
  mpirun -np "$ranks" "$sluice" bench step --json --config "configs/$config.textproto" --set cpu.threads=1 "$@" 2>/dev/null |
    sed -E 's/.*"tokens_per_s_median":([0-9.]+).*/\1/'
}

# compare CONFIG ARGUMENTS...
compare() {
  local config=$1 one dp ep
  shift
  for ((round = 0; round < rounds; ++round)); do
    one=$(speed 1 "$config" "$@")
    dp=$(speed 2 "$config" "$@" --set mesh.dp=2)
    ep=$(speed 2 "$config" "$@" --set mesh.ep=2)
    awk -v name="$config" -v one="$one" -v dp="$dp" -v ep="$ep" 'BEGIN {
      printf "%-12s one rank %8.1f   dp=2 %8.1f %.3f   ep=2 %8.1f %.3f\n", name, one, dp, dp / (2 * one), ep, ep / (2 * one) }'
  done
}

compare quickstart --set training.global_batch_size=16 --warm-up 30 --steps 5 --set model.moe.selection_bias_rate=0.003
compare bench/large --set training.micro_batch_size=2 --warm-up 14 --steps 4 --set model.moe.selection_bias_rate=0.004
