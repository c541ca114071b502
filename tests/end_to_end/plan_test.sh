#!/usr/bin/env bash
# `sluice plan`: the paper's 15A2B model on 64 GPUs within a second, without MPI and data; the memory of runs on this machine;
# what it refuses; and a run that does not fit.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
first() { grep -oE "\"$1\":[0-9.]+" plan.json | sed -n '1s/.*://p'; }

# CPU time, since other tests may run beside.
TIMEFORMAT='%3U %3S'
{ time "$SLUICE" plan --config "$SOURCE/configs/paper/moe_15a2b.textproto" --world 64 --device h100 --set mesh.ep=8 --json > plan.json; } 2> took
awk '{ print "planned in", $1 + $2, "s"; exit $1 + $2 >= 1 }' took || fail "planning took $(cat took) s"
[ "$(first parameters_total)" = 15577227264 ] || fail "parameters: $(first parameters_total)"
[ "$(first parameters_active)" = 1987682304 ] || fail "active parameters: $(first parameters_active)"
grep -q '"precision":"BF16"' plan.json || fail "the precision of a GPU"
for key in memory_per_rank master bytes_sent_per_step exposed_ms flops_per_token step_ms mfu layouts; do
  grep -q "\"$key\":" plan.json || fail "plan --json has no $key"
done

# within RANKS OVERRIDES...: what is planned is what the fullest rank takes.
within() {
  local ranks=$1 launcher=() sets=() taken
  shift
  if [ "$ranks" -gt 1 ]; then launcher=(mpirun -np "$ranks"); fi
  for override in "$@"; do sets+=(--set "$override"); done
  "$SLUICE" plan --config config.textproto --world "$ranks" "${sets[@]}" --json > plan.json
  "${launcher[@]}" "$SLUICE" train --config config.textproto --run "run$((++runs))" "${sets[@]}" > log 2>&1 || { cat log; fail "$*"; }
  taken=$(sed -nE 's/^peak memory of a rank: ([0-9.]+) MiB/\1/p' log)
  awk -v planned="$(first memory_bytes)" -v taken="$taken" 'BEGIN {
    off = planned / 1048576 - taken
    printf "planned %.1f MiB, taken %.1f MiB\n", planned / 1048576, taken
    exit (off < 0 ? -off : off) > 0.05 * taken + 64 }' || fail "$* on $ranks rank(s)"
}
runs=0
large="model.hidden_size=256 model.num_layers=4 training.sequence_length=512 training.steps=4 training.micro_batch_size=4"
# shellcheck disable=SC2086
within 1 $large
# shellcheck disable=SC2086
within 2 $large mesh.tp=2 checkpoint.every=2
# shellcheck disable=SC2086
within 2 $large mesh.ep=2 stability.lm_loss.action=REWIND optimizer.zero_stage=2

refused() {
  local text=$1 code=0
  shift
  "$SLUICE" "$@" > log 2>&1 || code=$?
  [ $code -eq 1 ] || fail "exit code $code of $*"
  [ "$(grep -c 'error:' log)" -eq 1 ] || { cat log; fail "one line of $*"; }
  grep -qF -- "$text" log || { cat log; fail "what $* says"; }
}
refused "--device h10 is not known; there are cpu, h100, h200, b200" plan --config config.textproto --world 2 --device h10
refused "mesh.tp=3" plan --config config.textproto --world 4 --set mesh.tp=3
refused "precision=BF16 is computed by GPUs only" plan --config config.textproto --world 1 --set precision=BF16
refused "plan.imbalance=-1 must be a positive number" plan --config config.textproto --world 1 --set plan.imbalance=-1
# Some hundred GiB of activations.
refused "with training.micro_batch_size=" train --config config.textproto --run big --set training.sequence_length=4096 \
  --set training.micro_batch_size=256 --set training.global_batch_size=256 --set model.hidden_size=1024 \
  --set model.num_layers=8
[ ! -e big ] || fail "a run that does not fit has left something"
