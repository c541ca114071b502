#!/usr/bin/env bash
# `train --replay-step N` finds that a run repeats, and where it does not.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
train2=(mpirun -np 2 "$SLUICE" train --config config.textproto --set training.micro_batch_size=2 --set checkpoint.every=6
  --set checkpoint.keep=10)
"${train2[@]}" --run run 2> train.log || { cat train.log; fail "train"; }
before=$(find run -type f -exec sha256sum {} + | sort)

replay() { "${train2[@]}" --run run --replay-step "$1" "${@:2}" > out.txt 2> err.txt; }
replay 15 || { cat err.txt; fail "step 15"; }
grep -qx 'step 15 from run/checkpoints/step_00000012: 3 logged step(s) have the same losses and norms, weights and moments are the same when the step is run twice' out.txt || fail "$(cat out.txt)"
replay 18 || { cat err.txt; fail "step 18"; }
grep -qx 'step 18 from run/checkpoints/step_00000012: 6 logged .*, and those of its checkpoint' out.txt || fail "$(cat out.txt)"
replay 3 || { cat err.txt; fail "step 3"; }
grep -q '^step 3 from the initial weights: 3 logged ' out.txt || fail "$(cat out.txt)"
[ "$before" = "$(find run -type f -exec sha256sum {} + | sort)" ] || fail "the run folder has changed"

code=0
replay 15 --set optimizer.beta1=0.91 || code=$?
[ $code -eq 1 ] || fail "exit code $code with another beta1"
grep -qE '^error: step 15 does not repeat: loss of step 14 is [0-9.]+, logged is [0-9.]+; ' err.txt || { cat err.txt; fail "not told"; }
sed -i -E 's/^(\{"step":14,[^{]*"grad_norm":)/\11/' run/metrics.jsonl
code=0
replay 15 || code=$?
[ $code -eq 1 ] || fail "exit code $code with another grad_norm"
grep -qE '^error: step 15 does not repeat: grad_norm of step 14 is [0-9.]+, logged is [0-9.]+$' err.txt || { cat err.txt; fail "not told"; }
code=0
replay 21 || code=$?
[ $code -eq 1 ] || fail "exit code $code beyond the end"
grep -q '^error: --replay-step 21 must be between 1 and training.steps=20' err.txt || { cat err.txt; fail "not told"; }
