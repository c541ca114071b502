#!/usr/bin/env bash
# What a G1 gate costs: steps without a gate, with an elementwise and with a headwise one, in turn, on the quick start's
# shapes and on one layer of the 15A2B model (2048 wide, 128 experts of 768, top 8) with sequences of 4096 tokens, as many
# as in training, and a vocabulary of 8192, since one layer should not vanish beside the whole output matrix. Prints the
# median speed without a gate, and for each gate the median over rounds of its time beside that of none in the same round,
# with the smallest and the largest. The layer needs 16 GB.
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
                     --set training.global_batch_size=1 --warm-up 1 --steps 3) ;;
    *) echo "gate_cost.sh: no shape $shape: quickstart or layer" >&2; exit 1 ;;
  esac
  for ((round = 0; round < rounds; ++round)); do
    gates=(none ELEMENTWISE HEADWISE)
    ((round % 2 == 0)) || gates=(HEADWISE ELEMENTWISE none)
    for gate in "${gates[@]}"; do
      chosen=(--set model.gates=)
      [[ $gate == none ]] || chosen+=(--set "model.gates[0]={position: G1 granularity: $gate}")
      tokens_per_s=$(speed "${settings[@]}" "${chosen[@]}" 2>"$results.err") || { cat "$results.err" >&2; exit 1; }
      echo "$shape $round $gate $tokens_per_s" >> "$results"
    done
  done
done
awk '
  { speed[$1, $2, $3] = $4; shapes[$1] = 1; if ($2 >= rounds) rounds = $2 + 1 }
  # The k-th smallest of values[1..rounds].
  function ranked(k,  i, j, smaller, equal) {
    for (i = 1; i <= rounds; ++i) {
      smaller = equal = 0
      for (j = 1; j <= rounds; ++j) { smaller += values[j] < values[i]; equal += values[j] == values[i] }
      if (smaller < k && k <= smaller + equal) return values[i]
    }
  }
  function median() { return (ranked(int((rounds + 1) / 2)) + ranked(int(rounds / 2) + 1)) / 2 }
  END {
    for (shape in shapes) {
      for (i = 0; i < rounds; ++i) values[i + 1] = speed[shape, i, "none"]
      printf "%-11s none        %9.1f tokens/s, %d rounds\n", shape, median(), rounds
      split("ELEMENTWISE HEADWISE", names, " ")
      for (g = 1; g <= 2; ++g) {
        for (i = 0; i < rounds; ++i) values[i + 1] = 100 * (speed[shape, i, "none"] / speed[shape, i, names[g]] - 1)
        printf "%-11s %-11s step time %+.1f %% (%+.1f to %+.1f)\n", shape, tolower(names[g]), median(), ranked(1),
          ranked(rounds)
      }
    }
  }' "$results"
