#!/usr/bin/env bash
# What `sluice plan` says beside what a run takes: the table of docs/planning.md. Each line plans a configuration on a
# layout and trains it for a few steps, in turn: the largest resident set of a rank, and medians of what is planned for a step and
# of all steps' times.
#   tests/bench/plan.sh [LINES]     default: all; else those whose number is in LINES, as "1 4 7"
#   SLUICE   the program            default: build/cpu/bin/sluice
#   ROUNDS   of plan and run        default: 3
# Exit code 1 when a memory is off by more than 5 % and 64 MiB, or a time by more than 20 %.
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
source "$source_dir/launch/mpi_local.sh"
sluice=$(realpath "${SLUICE:-$source_dir/build/cpu/bin/sluice}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
find "$source_dir/kernels" "$source_dir/models" "$source_dir/runtime" -name '*.cc' | sort > documents
xargs -a documents "$sluice" data tokenizer --vocab 4096 --out tokenizer.json > log 2>&1 || { cat log; exit 1; }
xargs -a documents "$sluice" data build --tokenizer tokenizer.json --out data > log 2>&1 || { cat log; exit 1; }

# RANKS CONFIGURATION OVERRIDES...
lines=(
  "1 quickstart"
  "2 quickstart"
  "2 quickstart mesh.ep=2"
  "2 quickstart mesh.tp=2"
  "2 quickstart optimizer.zero_stage=2"
  "2 quickstart optimizer.zero_stage=0"
  "1 quickstart training.recompute[0]={first_layer:0 last_layer:3}"
  "1 quickstart checkpoint.every=4"
  "1 quickstart stability.lm_loss.action=REWIND stability.rewind.snapshot_every=4"
  "1 quickstart training.sequence_length=1024 training.micro_batch_size=2"
  "1 bench/small"
  "2 bench/small mesh.tp=2"
  "2 bench/small mesh.ep=2 training.global_batch_size=16"
  "1 bench/small_dense"
  "2 bench/small_dense training.global_batch_size=16"
  "1 bench/large"
  "2 bench/large mesh.ep=2 training.global_batch_size=8"
  "1 bench/large_dense"
  "2 bench/large_dense mesh.tp=2"
  "1 bench/fine"
  "4 quickstart mesh.tp=2 mesh.ep=4"
)
median() { sort -n "$1" | awk '{ all[NR] = $1 } END { print (all[int((NR + 1) / 2)] + all[int(NR / 2) + 1]) / 2 }'; }
number() { grep -oE "\"$1\":[0-9.]+" plan.json | sed -n "1s/.*://p"; }
printf '| ranks | configuration | planned MiB | taken MiB | off | planned ms | taken ms | off |\n|---|---|---|---|---|---|---|---|\n'
code=0 i=0
for line in "${lines[@]}"; do
  i=$((i + 1))
  if [ -n "${1:-}" ] && ! [[ " $1 " == *" $i "* ]]; then continue; fi
  read -r ranks name overrides <<< "$line"
  sets=(--set data.tokenizer=tokenizer.json --set 'data.train[0].prefix=data' --set training.steps=18 --set optimizer.warmup_steps=0
    --set logging.every=1 --set logging.tensorboard=false)
  if grep -q '  eval {' "$source_dir/configs/$name.textproto"; then sets+=(--set 'data.eval[0].prefix=data' --set data.eval_windows=16); fi
  # A value may have spaces.
  while [ -n "$overrides" ]; do
    value=${overrides%% [a-z]*.*=*}
    if [ "$value" = "$overrides" ]; then overrides=; else overrides=${overrides#"$value" }; fi
    sets+=(--set "$value")
  done
  launcher=(mpirun -np "$ranks")
  # Which would bind a rank alone to one core.
  if [ "$ranks" = 1 ]; then launcher=(); fi
  : > planned_ms
  : > taken_ms
  for ((round = 0; round < ${ROUNDS:-3}; ++round)); do
    "$sluice" plan --config "$source_dir/configs/$name.textproto" --world "$ranks" "${sets[@]}" --json > plan.json 2> log || { cat log; exit 1; }
    number step_ms >> planned_ms
    rm -rf run
    "${launcher[@]}" "$sluice" train --config "$source_dir/configs/$name.textproto" --run run "${sets[@]}" > log 2>&1 || { cat log; exit 1; }
    sed -nE 's/.*"step_ms":([0-9.]+).*/\1/p' run/metrics.jsonl | tail -n +2 >> taken_ms
  done
  taken=$(sed -nE 's/^peak memory of a rank: ([0-9.]+) MiB/\1/p' log)
  awk -v ranks="$ranks" -v name="${line#* }" -v planned="$(number memory_bytes)" -v taken="$taken" -v pms="$(median planned_ms)" -v ms="$(median taken_ms)" 'BEGIN {
    planned /= 1048576
    off = planned - taken; late = pms / ms - 1
    bad = (off < 0 ? -off : off) > 0.05 * taken + 64 || (late < 0 ? -late : late) > 0.2
    printf "| %d | %s | %.0f | %.0f | %+.1f %% | %.0f | %.0f | %+.1f %% |%s\n", ranks, name, planned, taken, 100 * off / taken, pms, ms, 100 * late, bad ? " <- off" : ""
    exit bad }' || code=1
done
exit $code
