#!/usr/bin/env bash
# Runs that cannot save or that diverge: what they leave behind, and their exit codes.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data

# ends CODE RUN ARGUMENTS...: a training run on one rank, or on $ranks=2, that ends with this exit code. The second rank
# has a disk of its own, node/.
ranks=1
ends() {
  local want=$1 run=$2 code=0
  local job=("$SLUICE" train --config config.textproto --run "$run" "${@:3}")
  [ $ranks -eq 1 ] || job=(mpirun -np 1 "${job[@]}" : -np 1 -wdir "$PWD/node" "${job[@]}")
  "${job[@]}" 2> err.txt || code=$?
  [ "$code" -eq "$want" ] || { cat err.txt; fail "$run: exit code $code"; }
}
says() { grep -qE -e "$2" "$1" || { cat "$1"; fail "$1 does not say $2"; }; }
one_error() { [ "$(grep -c 'error:' err.txt)" -eq 1 ] || { cat err.txt; fail "not one error line"; }; }

# A checkpoint on the way that cannot be written: said, noted, and training goes on.
mkdir -p middle/checkpoints
touch middle/checkpoints/step_00000010
ends 0 middle --set checkpoint.every=10
says err.txt 'step 10: no checkpoint: .*step_00000010: cannot be created'
says middle/audit.jsonl '^\{"step":10,"event":"checkpoint_failed",'
[ -s middle/checkpoints/step_00000020/manifest.textproto ] || fail "no checkpoint at the end"

# The one at the end: all metrics are there, and exit code 6, also when it is not the first rank that cannot write.
mkdir -p last/checkpoints
touch last/checkpoints/step_00000020
ends 6 last
one_error
says err.txt 'error: .*step_00000020: cannot be created'
says last/metrics.jsonl '"step":20,.*"eval_loss.own"'
mkdir -p node/second/checkpoints/step_00000020
ln -s "$PWD"/{data.*,tokenizer.json} node
ln -s /dev/full node/second/checkpoints/step_00000020/shard-00001-of-00002.safetensors.tmp
ranks=2 ends 6 second --set training.micro_batch_size=2
one_error
says err.txt 'error: .*shard-00001-of-00002.safetensors.tmp: cannot write: No space left'
says second/metrics.jsonl '"step":20,.*"eval_loss.own"'
[ ! -e second/checkpoints/step_00000020 ] || fail "a part of a checkpoint is left"

# Updates that make the gradient infinite.
ends 4 diverged --set optimizer.lr=1e38 --set optimizer.warmup_steps=0 --set training.steps=100 --set logging.every=100
one_error
says err.txt 'error: the run has diverged: the gradient norm was not finite in 10 steps in a row'
[ "$(grep -c '"event":"skip","reason":"the gradient norm is' diverged/audit.jsonl)" -eq 10 ] || fail "not ten skips: $(cat diverged/audit.jsonl)"
[ "$(grep -c '"skipped":true' diverged/metrics.jsonl)" -eq 10 ] || fail "not ten skips: $(cat diverged/metrics.jsonl)"
