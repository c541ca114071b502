#!/usr/bin/env bash
# What a G1 gate costs: steps without a gate, with an elementwise and with a headwise one, in turn, on the quick start's
# shapes and on one layer of the 15A2B model (2048 wide, 128 experts of 768, top 8; a vocabulary of 8192). Prints medians
# and each gate's time beside that of none. The last needs 16 GB.
#
#   tests/bench/gate_cost.sh [--rounds N] [quickstart|layer ...]     default: 5 rounds of both
#   SLUICE   the program                                             default: build/cpu/bin/sluice
set -euo pipefail
cd "$(dirname "$0")/../.."
sluice=${SLUICE:-build/cpu/bin/sluice}
rounds=5
if [[ ${1:-} == --rounds ]]; then
  rounds=$2
  shift 2
fi
shapes=("$@")
[[ $# -gt 0 ]] || shapes=(quickstart layer)
results=$(mktemp)
trap 'rm -f "$results" "$results.err"' EXIT

# speed ARGUMENTS...: tokens/s.
speed() {
  local json
  json=$("$sluice" bench step --json --set cpu.threads=1 "$@")
  [[ $json =~ \"tokens_per_s_median\":([0-9.]+) ]] || { echo "gate_cost.sh: no speed in: $json" >&2; return 1; }
  echo "${BASH_REMATCH[1]}"
}

for shape in "${shapes[@]}"; do
  case $shape in
    quickstart) settings=(--config configs/quickstart.textproto --set training.global_batch_size=8 --warm-up 2 --steps 5) ;;
    layer) settings=(--config configs/moe_15a2b_baseline.textproto --set model.num_layers=1 --set model.vocab_size=8192
                     --set training.sequence_length=1024 --set training.global_batch_size=1 --warm-up 1 --steps 3) ;;
    *) echo "gate_cost.sh: no shape $shape: quickstart or layer" >&2; exit 1 ;;
  esac
  for ((round = 0; round < rounds; ++round)); do
    for gate in none ELEMENTWISE HEADWISE; do
      chosen=(--set model.gates=)
      [[ $gate == none ]] || chosen+=(--set "model.gates[0]={position: G1 granularity: $gate}")
      tokens_per_s=$(speed "${settings[@]}" "${chosen[@]}" 2>"$results.err") || { cat "$results.err" >&2; exit 1; }
      echo "$shape $gate $tokens_per_s" >> "$results"
    done
  done
done
sort -k1,2 -k3,3g "$results" | awk '
  { values[$1 " " $2, ++n[$1 " " $2]] = $3; shapes[$1] = 1 }
  function median(key) { return (values[key, int((n[key] + 1) / 2)] + values[key, int(n[key] / 2) + 1]) / 2 }
  END {
    for (shape in shapes) {
      none = median(shape " none")
      printf "%-11s none        %9.1f tokens/s\n", shape, none
      split("ELEMENTWISE HEADWISE", names, " ")
      for (i = 1; i <= 2; ++i) {
        with = median(shape " " names[i])
        printf "%-11s %-11s %9.1f tokens/s, step time %+.1f %%\n", shape, tolower(names[i]), with, 100 * (none / with - 1)
      }
    }
  }'
