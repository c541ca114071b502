#!/usr/bin/env bash
# Updates of steps whose loss or gradient norm is out of line are skipped by policy: on all ranks, noted with the numbers,
# and alike when a run goes on; too many in a row end it.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
# A low threshold, since this run has no true spikes: it may well skip many in a row.
policy=(--set 'stability={lm_loss {action: SKIP threshold: 1} grad_norm {action: SKIP threshold: 1.5} most_skips_in_a_row: 150}')
train2=(mpirun -np 2 "$SLUICE" train --config config.textproto --set optimizer.schedule=CONSTANT --set training.micro_batch_size=2
  --set data.eval_every=0 --set checkpoint.every=50)
train() { "${train2[@]}" --run "$@" 2> train.log || { cat train.log; fail "train $*"; }; }
skips() { sed -nE 's/^\{"step":([0-9]+),"event":"skip".*/\1/p' "$1/audit.jsonl"; }

train straight "${policy[@]}" --set training.steps=150
[ "$(skips straight | wc -l)" -ge 3 ] || fail "few skips: $(cat straight/audit.jsonl)"
[ "$(skips straight | awk '$1 > 75' | wc -l)" -ge 1 ] || fail "no late skip: $(cat straight/audit.jsonl)"
diff <(skips straight) <(sed -nE 's/^\{"step":([0-9]+),.*"skipped":true.*/\1/p' straight/metrics.jsonl) || fail "the skips of metrics.jsonl are others"
grep -qE '^\{"step":[0-9]+,"event":"skip","reason":"(lm_loss|grad_norm) [0-9.]+ is [0-9.]+ deviations above its trend; [0-9.]+ or [0-9.]+ are the limit' \
  straight/audit.jsonl || fail "no numbers: $(cat straight/audit.jsonl)"

# What the policy has learnt is in the checkpoint.
train parts "${policy[@]}" --set training.steps=75
train parts "${policy[@]}" --set training.steps=150
diff <(losses straight) <(losses parts) || fail "a run in two parts differs"
diff <(skips straight) <(skips parts) || fail "a run in two parts skips other updates"
cmp {straight,parts}/checkpoints/step_00000150/shard-00001-of-00002.safetensors

# Without a policy spikes are told, and nothing else happens.
train told --set stability.threshold=1 --set training.steps=150
grep -qE 'step [0-9]+: (lm_loss|grad_norm) [0-9.]+ is [0-9.]+ deviations above its trend' train.log || fail "nothing is told: $(cat train.log)"
[ ! -e told/audit.jsonl ] || fail "something was decided: $(cat told/audit.jsonl)"

code=0
"${train2[@]}" --run ended "${policy[@]}" --set stability.most_skips_in_a_row=1 --set training.steps=150 2> err.txt || code=$?
[ $code -eq 4 ] || { cat err.txt; fail "exit code $code"; }
grep -qE 'error: the run has diverged: 1 updates in a row were skipped, the last in step [0-9]+: ' err.txt || { cat err.txt; fail "not told"; }

# Going back: steps count on from there, on every rank, until the budget is used up.
code=0
"${train2[@]}" --run back --set 'stability={lm_loss {action: REWIND threshold: 1} rewind {most_rewinds: 3}}' --set checkpoint.every=7 \
  --set training.steps=150 2> err.txt || code=$?
[ $code -eq 4 ] || { cat err.txt; fail "exit code $code"; }
grep -qE 'error: the run has diverged: it has gone back 3 times, and in step [0-9]+ lm_loss ' err.txt || { cat err.txt; fail "not told"; }
[ "$(grep -c '"event":"rewind"' back/audit.jsonl)" -eq 3 ] || fail "rewinds: $(cat back/audit.jsonl)"
diff <(seq "$(wc -l < back/metrics.jsonl)") <(sed -nE 's/^\{"step":([0-9]+),.*/\1/p' back/metrics.jsonl) || fail "metrics.jsonl has a gap or a repeat"
[ "$(wc -l < back/metrics.rewound.jsonl)" -ge 3 ] || fail "what was logged before is lost"
