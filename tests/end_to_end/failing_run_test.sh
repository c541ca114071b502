#!/usr/bin/env bash
# Runs that cannot save or that diverge: what they leave behind, and their exit codes.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data

# ends CODE RUN ARGUMENTS...: a training run on $ranks=1 that ends with this exit code. With node=DIR the second of two
# ranks has a disk of its own.
ranks=1 node=
ends() {
  local want=$1 run=$2 code=0
  local job=("$SLUICE" train --config config.textproto --run "$run" "${@:3}")
  if [ -n "$node" ]; then
    job=(mpirun -np 1 "${job[@]}" : -np 1 -wdir "$PWD/$node" "${job[@]}")
  elif [ $ranks -gt 1 ]; then
    job=(mpirun -np $ranks "${job[@]}")
  fi
  "${job[@]}" 2> err.txt || code=$?
  [ "$code" -eq "$want" ] || { cat err.txt; fail "$run: exit code $code"; }
}
says() { grep -qE -e "$2" "$1" || { cat "$1"; fail "$1 does not say $2"; }; }
one_error() { [ "$(grep -c 'error:' err.txt)" -eq 1 ] || { cat err.txt; fail "not one error line"; }; }

# A checkpoint on the way that cannot be written: said, noted, and training goes on to exit code 6.
mkdir -p middle/checkpoints
touch middle/checkpoints/step_00000010
ends 6 middle --set checkpoint.every=10
one_error
says err.txt 'step 10: no checkpoint: .*step_00000010: cannot be created'
says middle/audit.jsonl '^\{"step":10,"event":"checkpoint_failed",'
[ -s middle/checkpoints/step_00000020/manifest.textproto ] || fail "no checkpoint at the end"

# The one at the end, also when it is not the first rank that cannot write: all metrics are there.
mkdir -p last/checkpoints
touch last/checkpoints/step_00000020
ends 6 last
one_error
says err.txt 'error: .*step_00000020: cannot be created'
says last/metrics.jsonl '"step":20,.*"eval_loss.own"'
export FAILING_IO_PATH=/shard-00001 FAILING_IO_MODE=full FAILING_IO_AT=2
LD_PRELOAD=$FAILING_IO ranks=2 ends 6 second --set training.micro_batch_size=2
one_error
says err.txt 'error: .*shard-00001-of-00002.safetensors.tmp: cannot write: No space left'
says second/metrics.jsonl '"step":20,.*"eval_loss.own"'
[ ! -e second/checkpoints/step_00000020 ] || fail "a part of a checkpoint is left"

# A rank that fails while the manifest of the checkpoint before waits for a slow disk to have the metrics.
cp data.idx lost.idx
cp data.meta.json lost.meta.json
cp data.bin lost.bin
for ((i = 1; i < 8; ++i)); do
  printf '\377\377' | dd of=lost.bin bs=2 seek=$((i * $(stat -c %s data.bin) / 16)) conv=notrunc status=none
done
for ((seed = 1; seed < 4; ++seed)); do
  FAILING_IO_PATH=/metrics.jsonl FAILING_IO_MODE=slow FAILING_IO_AT=0 LD_PRELOAD=$FAILING_IO ends 1 in_flight$seed \
    --set 'data.train[0].prefix=lost' --set checkpoint.every=10 --set training.steps=2000 --set training.seed=$seed
  one_error
  says err.txt 'error: .*lost.*65535'
  ! grep -E 'Bad file descriptor|cannot write' err.txt || fail "metrics were gone before the checkpoint"
done
cat in_flight*/metrics.jsonl > /dev/null || fail "no run began"

# Metrics that cannot be written for a while are written later.
FAILING_IO_PATH=/metrics.jsonl FAILING_IO_MODE=error FAILING_IO_AT=5 LD_PRELOAD=$FAILING_IO ends 0 logged
says err.txt 'logged/metrics.jsonl: cannot write: No space left on device; what is logged is kept until it can be'
diff <(grep -oE '^\{"step":[0-9]+' logged/metrics.jsonl) <(seq -f '{"step":%g' 20) || fail "steps are missing"
FAILING_IO_PATH=/metrics.jsonl FAILING_IO_MODE=full FAILING_IO_AT=5 LD_PRELOAD=$FAILING_IO ends 6 lost
says err.txt 'error: lost/metrics.jsonl: cannot write: No space left'
[ -s lost/checkpoints/step_00000020/manifest.textproto ] || fail "no checkpoint at the end"

# A folder that cannot hold the checkpoints, or that ranks do not share, is told of before the first step.
ends 1 large --set checkpoint.every=1 --set training.steps=10000000 --set checkpoint.keep=10000000
one_error
says err.txt 'error: --run large: [0-9]+ MB are free, but checkpoints need [0-9]+ MB, 10000000 at a time of [0-9]+ MB'
mkdir node
ln -s "$PWD"/{data.*,tokenizer.json} node
node=node ends 1 apart --set training.micro_batch_size=2
one_error
says err.txt 'error: --run apart: rank 1 does not see there what rank 0 writes'
[ ! -e apart/metrics.jsonl ] || fail "the run began"

# Updates that make the gradient infinite.
ends 4 diverged --set optimizer.lr=1e38 --set optimizer.warmup_steps=0 --set training.steps=100 --set logging.every=100
one_error
says err.txt 'error: the run has diverged: 10 updates in a row were skipped, the last in step [0-9]+: .*grad_norm is (inf|nan|-nan)'
[ "$(grep -c '"event":"skip","reason":".*grad_norm is' diverged/audit.jsonl)" -eq 10 ] || fail "not ten skips: $(cat diverged/audit.jsonl)"
[ "$(grep -c '"skipped":true' diverged/metrics.jsonl)" -eq 10 ] || fail "not ten skips: $(cat diverged/metrics.jsonl)"
