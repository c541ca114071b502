#!/usr/bin/env bash
# A job that is killed at random instants, SLUICE_KILLS of them (6), and started again each time ends like one that was
# not, to the last bit of its losses and of its last checkpoint. SLUICE_SEED chooses other instants than those of the day.
# Every other kill waits for a checkpoint that is being written; more follow until one has met such a checkpoint and a
# session resumed.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
kills=${SLUICE_KILLS:-6}
RANDOM=${SLUICE_SEED:=$(date +%-j)}
echo "SLUICE_SEED=$SLUICE_SEED"
steps=60 last=checkpoints/step_00000060
# Shards are of several blocks.
train=("$SLUICE" train --config config.textproto --set model.moe.moe_intermediate_size=512 --set training.steps=$steps --set checkpoint.every=3 --set data.eval_every=7)
train2=(mpirun -np 2 "${train[@]}" --set training.micro_batch_size=2)
says() { grep -qE -e "$2" "$1" || { cat "$1"; fail "$1 does not say $2"; }; }
evaluations() { grep -oE '"step":[0-9]+,|"eval_loss.own":[0-9.]+' "$1/metrics.jsonl"; }
# same_end RUN: as the one that nobody killed.
same_end() {
  diff <(losses straight) <(losses "$1") || fail "the losses of $1 differ"
  diff <(evaluations straight) <(evaluations "$1") || fail "the evaluations of $1 differ"
  diff -r straight/$last "$1/$last" || fail "the last checkpoint of $1 differs"
}
# each_step_once RUN STEPS
each_step_once() {
  diff <(grep -oE '^\{"step":[0-9]+' "$1/metrics.jsonl") <(seq -f '{"step":%g' "$2") || fail "$1/metrics.jsonl has not each step once"
}

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
began=$(now_ms)
"${train2[@]}" --run straight 2> straight.log || { cat straight.log; fail "train straight"; }
took=$(($(now_ms) - began))
each_step_once straight $steps

# killed RUN: whether a session was killed, at an instant within the time that one took; it may end before.
killed() {
  local job pids began instant i
  touch session
  began=$(now_ms)
  instant=$((began + RANDOM % took))
  "${train2[@]}" --run "$1" > job.log 2>&1 &
  job=$!
  while [ "$(now_ms)" -lt $instant ] && kill -0 $job 2> /dev/null; do sleep 0.01; done
  [ $((kills_done % 2)) -eq 0 ] || while ! writing "$1" && kill -0 $job 2> /dev/null; do :; done
  # Both, and not before they are the program: Open MPI's launcher does not expect that.
  while pids=$(pgrep -P $job -x sluice) || kill -0 $job 2> /dev/null; do
    [ "$(wc -w <<< "$pids")" -lt 2 ] || break
  done
  # shellcheck disable=SC2086
  kill -9 $pids 2> /dev/null || true
  # Nor always that ranks die at the same time: then it would wait for ever.
  for ((i = 0; i < 100; ++i)); do
    kill -0 $job 2> /dev/null || break
    sleep 0.1
  done
  [ $i -lt 100 ] || kill -9 $job
  if wait $job; then
    took=$(($(now_ms) - began))
    return 1
  fi
  ! grep -aE 'error:|signal (6|11)' job.log || fail "$1 ended by itself"
}
# writing RUN: whether the last session has begun a checkpoint that has no manifest.
writing() {
  local folder
  for folder in "$1"/checkpoints/step_*; do
    [ ! "$folder" -nt session ] || [ -e "$folder/manifest.textproto" ] || return 0
  done
  return 1
}
kills_done=0 in_flight=0 runs=1
resumed() { cat killed*/audit.jsonl 2> /dev/null | grep '"event":"resume"'; }
while [ $kills_done -lt "$kills" ] ||
  { [ $kills_done -lt $((kills + 20)) ] && { [ $in_flight -eq 0 ] || ! resumed > /dev/null; }; }; do
  if killed killed$runs; then
    kills_done=$((kills_done + 1))
    ! writing killed$runs || in_flight=$((in_flight + 1))
  else
    same_end killed$runs
    runs=$((runs + 1))
  fi
done
"${train2[@]}" --run killed$runs 2> job.log || { cat job.log; fail "the last session"; }
same_end killed$runs
cat killed*/audit.jsonl > audits.jsonl
! grep -vE '"event":"(resume|restart)"' audits.jsonl || fail "something else happened"
[ $in_flight -gt 0 ] || fail "no kill while a checkpoint was written"
resumed > /dev/null || fail "no session went on from a checkpoint"
echo "$kills_done kills in $runs run(s), $in_flight of them while a checkpoint was written;" \
  "$(resumed | wc -l) sessions went on from a checkpoint"

# A run that is complete is left alone.
sums() { find straight -type f -print0 | sort -z | xargs -0 sha256sum; }
sums > before.txt
"${train2[@]}" --run straight 2> complete.log || { cat complete.log; fail "a complete run"; }
says complete.log 'straight is complete, its newest checkpoint is of step 60; a training.steps above that would go on'
diff before.txt <(sums) || fail "a complete run was changed"

# It goes on to more steps, here on one rank, and past a damaged checkpoint.
cp straight/metrics.jsonl uninterrupted.jsonl
printf '\377\377\377\377' | dd of=straight/$last/shard-00001-of-00002.safetensors bs=1 seek=100000 conv=notrunc status=none
"${train[@]}" --run straight --set training.steps=64 2> more.log || { cat more.log; fail "more steps"; }
says more.log 'shard-00001-of-00002.safetensors: .*the file is damaged; an older checkpoint takes its place'
says more.log "numbers differ from an uninterrupted run's by rounding"
says more.log '^start-up: '
says straight/audit.jsonl '^\{"step":60,"event":"checkpoint_damaged",.*the file is damaged'
says straight/audit.jsonl '^\{"step":57,"event":"resume",.*/step_00000057; .*modified: training.steps: 60 -> 64'
[ -e straight/checkpoints/damaged_step_00000060 ] || fail "the damaged checkpoint is gone"
[ "$(find straight -name 'events.out.tfevents.*' | wc -l)" -eq 2 ] || fail "not an event file a session"
each_step_once straight 64
# The first of these steps has the weights, moments' bias and samples that it had on two ranks.
loss_58() { sed -nE 's/^\{"step":58,.*"loss":([0-9.]+),"lm_loss".*/\1/p' "$1"; }
awk -v a="$(loss_58 uninterrupted.jsonl)" -v b="$(loss_58 straight/metrics.jsonl)" 'BEGIN { d = a / b - 1; exit !(a > 0 && d * d < 1e-10) }' ||
  fail "step 58 has loss $(loss_58 straight/metrics.jsonl) on one rank, $(loss_58 uninterrupted.jsonl) on two"

# A run that ended before its first checkpoint starts over.
rm -r straight/checkpoints
"${train[@]}" --run straight --set training.steps=4 2> over.log || { cat over.log; fail "starting over"; }
says straight/audit.jsonl '^\{"step":0,"event":"restart","reason":"the run has no checkpoint; '
each_step_once straight 4
[ "$(tail -n 1 straight/metrics.jsonl.replaced | sed -E 's/^\{"step":([0-9]+),.*/\1/')" = 64 ] || fail "earlier metrics are gone"

# A new run from weights and moments, which remember the updates before.
"${train[@]}" --run next --set "initial_checkpoint={path: \"killed1/$last\" load: ALL}" --set training.steps=4 2> next.log ||
  { cat next.log; fail "a run from weights and moments"; }
each_step_once next 4
says next/checkpoints/step_00000004/manifest.textproto '^moment_updates: 64$'
