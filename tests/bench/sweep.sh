#!/usr/bin/env bash
# 24 cells (12 learning rates, two variants) as one job on two ranks, beside the same runs as separate processes, two at a
# time, in turn.
#   tests/bench/sweep.sh [ROUNDS]     default: 3; needs the quick start's data (launch/quickstart.sh)
# Exit code 1 when the job takes 5 % longer or more.
set -euo pipefail
cd "$(dirname "$0")/../.."
source launch/mpi_local.sh
rounds=${1:-3}
sluice=build/cpu/bin/sluice
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rates="5e-4 7e-4 1e-3 1.4e-3 2e-3 2.8e-3 4e-3 5.6e-3 8e-3 1.1e-2 1.6e-2 2.2e-2"
common=(training.steps=10 training.sequence_length=128 optimizer.warmup_steps=5 training.micro_batch_size=4 training.global_batch_size=8 data.eval_windows=8 cpu.threads=1)
{
  echo "config: \"$PWD/configs/quickstart.textproto\""
  printf 'set: "%s"\n' "${common[@]}"
  echo 'axis { name: "lr" field: "optimizer.lr"'
  printf '  value: "%s"\n' $rates
  echo '}'
  echo 'axis { name: "gate" choice { name: "none" set: "model.gates=" } choice { name: "G1" } }'
} > "$work/study.textproto"
for rate in $rates; do
  for gate in none G1; do
    [ $gate = none ] && cleared="--set model.gates=" || cleared=
    echo "train --config configs/quickstart.textproto --run $work/apart/$rate,$gate --set optimizer.lr=$rate $cleared $(printf -- " --set %s" "${common[@]}")"
  done
done > "$work/commands"

seconds() { local start=$EPOCHREALTIME; "$@" > "$work/log" 2>&1 || { tail "$work/log" >&2; exit 1; }; echo "$EPOCHREALTIME $start" | awk '{ print $1 - $2 }'; }
together() { rm -rf "$work/together"; mpirun -np 2 --enable-recovery "$sluice" sweep --study "$work/study.textproto" --run "$work/together"; }
apart() { rm -rf "$work/apart"; xargs -P 2 -L 1 "$sluice" < "$work/commands"; }
median() { sort -n "$1" | awk '{ x[NR] = $1 } END { print (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2 }'; }
for ((i = 1; i <= rounds; ++i)); do
  seconds together >> "$work/a"
  [ "$(grep -l '"outcome":"done"' "$work"/together/cells/*/cell.json | wc -l)" -eq 24 ] || { tail "$work/log" >&2; echo "error: not all cells are done" >&2; exit 1; }
  seconds apart >> "$work/b"
  [ "$(ls -d "$work"/apart/*/checkpoints/step_00000010 | wc -l)" -eq 24 ] || { echo "error: not all runs are done" >&2; exit 1; }
  echo "round $i: one job $(tail -1 "$work/a") s, separate processes $(tail -1 "$work/b") s"
done
awk -v a="$(median "$work/a")" -v b="$(median "$work/b")" 'BEGIN {
  printf "medians: one job %.1f s, separate processes %.1f s: %+.1f %%\n", a, b, 100 * (a / b - 1); exit a >= 1.05 * b }'
