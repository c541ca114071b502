#!/usr/bin/env bash
# Two ranks of one thread beside one rank of one thread, in turn, at the same global batch: dp=2 and ep=2, in tokens/s and
# as a share of twice the one rank. Experts are balanced by their selection bias first, as in a model that has trained; an
# untrained router sends up to three quarters of a layer's rows to one rank, which then is what one measures.
#
#   tests/bench/ranks_vs_one.sh [--rounds N] [quickstart|large ...]     default: 3 rounds of both
#   SLUICE   the program                                                default: build/cpu/bin/sluice
#
# Needs two cores that do nothing else. Exit code 1 when the median of the rounds is below 0.9 for any of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
sluice=${SLUICE:-build/cpu/bin/sluice}
rounds=3
if [[ ${1:-} == --rounds ]]; then
  rounds=$2
  shift 2
fi
shapes=("$@")
[[ $# -gt 0 ]] || shapes=(quickstart large)
shares=$(mktemp)
trap 'rm -f "$shares"' EXIT

# speed RANKS ARGUMENTS...: tokens/s.
speed() {
  local ranks=$1
  shift
  mpirun -np "$ranks" "$sluice" bench step --json --set cpu.threads=1 "$@" 2>/dev/null |
    sed -E 's/.*"tokens_per_s_median":([0-9.]+).*/\1/'
}

for shape in "${shapes[@]}"; do
  case $shape in
    quickstart) settings=(--config configs/quickstart.textproto --set training.global_batch_size=16 --warm-up 30 --steps 5
                          --set model.moe.selection_bias_rate=0.003) ;;
    large) settings=(--config configs/bench/large.textproto --set training.micro_batch_size=2 --warm-up 14 --steps 4
                     --set model.moe.selection_bias_rate=0.004) ;;
    *) echo "ranks_vs_one.sh: no shape $shape: quickstart or large" >&2; exit 1 ;;
  esac
  for ((round = 0; round < rounds; ++round)); do
    one=$(speed 1 "${settings[@]}")
    for layout in dp ep; do
      two=$(speed 2 "${settings[@]}" --set "mesh.$layout=2")
      awk -v name="$shape $layout=2" -v one="$one" -v two="$two" 'BEGIN {
        printf "%-16s one rank %8.1f   two %8.1f   share of twice the one %.3f\n", name, one, two, two / (2 * one) }' |
        tee -a "$shares"
    done
  done
done
sort "$shares" | awk '{
    name = $1 " " $2
    share[name, ++count[name]] = $NF
  }
  END {
    for (name in count) {
      n = 0
      for (i = 1; i <= count[name]; ++i) sorted[++n] = share[name, i]
      for (i = 2; i <= n; ++i) for (k = i; k > 1 && sorted[k] < sorted[k - 1]; --k) {
        t = sorted[k]; sorted[k] = sorted[k - 1]; sorted[k - 1] = t
      }
      median = n % 2 ? sorted[(n + 1) / 2] : (sorted[n / 2] + sorted[n / 2 + 1]) / 2
      printf "median of %d: %-16s %.3f\n", n, name, median
      low += median < 0.9
    }
    exit low > 0
  }'
