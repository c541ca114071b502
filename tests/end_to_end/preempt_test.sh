#!/usr/bin/env bash
# A signal at random instants: the run saves what it has done and ends with exit code 5 in the time that it has told, and
# goes on as if there had been none. SLUICE_SIGNALS: how many (default 6); SLUICE_SEED: of the instants. A third of them go
# to with_grace.sh, from the moment that it has begun; the others to mpirun or a rank, once all ranks heed them.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
signals=${SLUICE_SIGNALS:-6} seed=${SLUICE_SEED:-$(date +%-j)}
echo "SLUICE_SEED=$seed"
RANDOM=$seed
# Evaluations and checkpoints, so that signals meet those too.
train2=(mpirun -np 2 "$SLUICE" train --config config.textproto --set training.steps=60
  --set training.micro_batch_size=2 --set training.global_batch_size=32 --set model.moe.moe_intermediate_size=256
  --set data.eval_every=3 --set data.eval_windows=60 --set checkpoint.every=4)
"${train2[@]}" --run straight 2> train.log || { cat train.log; fail "straight"; }

# heeds PROCESS NUMBER: whether it has a handler for a signal.
heeds() {
  local mask
  mask=$(sed -n 's/^SigCgt:\t//p' "/proc/$1/status" 2>/dev/null) && [ $((0x0$mask >> ($2 - 1) & 1)) -eq 1 ]
}
# ranks LAUNCHER: its processes that heed SIGUSR1.
ranks() {
  local pid
  for pid in $(pgrep -P "$1"); do
    if heeds "$pid" 10; then echo "$pid"; fi
  done
}
ms() { date +%s%3N; }
# being_written RUN: whether a checkpoint is.
being_written() {
  local folder
  for folder in "$1"/checkpoints/step_*; do
    if [ -d "$folder" ] && [ ! -e "$folder/manifest.textproto" ]; then return 0; fi
  done
  return 1
}

sent=0 runs=0 scripts=0 startups=0 evaluations=0 writes=0 longest=0
while [ "$sent" -lt "$signals" ]; do
  runs=$((runs + 1)) run=run$runs
  while true; do
    # In which a start is given up; once steps are taken the run tells it.
    grace_ms=10000 writing=0
    touch begun
    way=$((RANDOM % 3))
    if [ $way -eq 0 ]; then
      bash "$SOURCE/launch/with_grace.sh" "${train2[@]}" --run $run 2> train.log &
      launcher=$!
      until { grep -qsz with_grace "/proc/$launcher/cmdline" && heeds $launcher 15; } || ! kill -0 $launcher 2>/dev/null; do sleep 0.002; done
    else
      "${train2[@]}" --run $run 2> train.log &
      launcher=$!
      until [ "$(ranks $launcher | wc -l)" -eq 2 ] || ! kill -0 $launcher 2>/dev/null; do sleep 0.002; done
    fi
    start=$(ms)
    # A third of them in the first half second: the start.
    sleep "$((RANDOM % 3 == 0 ? 0 : RANDOM % 3)).$(printf %03d $((RANDOM % 500)))"
    logged=$(grep -cs '"step"' $run/metrics.jsonl) || true
    told=$(sed -nE 's/.*end within ([0-9]+)\.([0-9]) s$/\1\200/p' train.log | tail -1)
    [ -z "$told" ] || grace_ms=$told
    if being_written $run; then writing=1; fi
    began=$(ms)
    if [ $way -eq 0 ]; then
      kill -TERM $launcher 2>/dev/null || true
    else
      case $((RANDOM % 3)) in
        0) kill -USR1 $launcher 2>/dev/null || true ;;
        1) kill -USR1 "$(ranks $launcher | sed -n 1p)" 2>/dev/null || true ;;
        2) kill -TERM "$(ranks $launcher | tail -1)" 2>/dev/null || true ;;
      esac
    fi
    code=0
    wait $launcher || code=$?
    took=$(($(ms) - began))
    if [ $code -eq 0 ]; then
      # In its last step a run may be past the last place where it looks; some steps are made until the signal is there.
      [ "${logged:-0}" -ge 50 ] || { cat train.log; fail "a signal after $logged steps was not heeded"; }
      break
    fi
    sent=$((sent + 1)) scripts=$((scripts + (way == 0)))
    [ $took -le "$grace_ms" ] || { cat train.log; fail "it took $took ms, told were $grace_ms, $((began - start)) ms after the start"; }
    [ $took -le $longest ] || longest=$took
    if [ $code -eq 1 ] && [ -z "$(ls $run/checkpoints 2>/dev/null)" ]; then
      grep -q 'error: stopped by a signal before there was anything to save' train.log || { cat train.log; fail "exit code 1"; }
      startups=$((startups + 1))
      continue
    fi
    [ $code -eq 5 ] || { cat train.log; fail "exit code $code, $((began - start)) ms after the start"; }
    if grep -q 'before the first step' train.log; then
      startups=$((startups + 1))
      continue
    fi
    writes=$((writes + writing))
    manifest=$(ls -d $run/checkpoints/step_* | tail -1)/manifest.textproto
    if [ "$manifest" -nt begun ] && grep -q '^unlogged:' "$manifest"; then evaluations=$((evaluations + 1)); fi
  done
  diff <(losses straight) <(losses $run) || fail "the losses of $run are others"
  diff <(grep -o '"eval_loss[^,}]*' straight/metrics.jsonl) <(grep -o '"eval_loss[^,}]*' $run/metrics.jsonl) || fail "evaluations of $run"
  for shard in straight/checkpoints/step_00000060/*.safetensors; do cmp $shard $run/${shard#straight/}; done
done
echo "$sent signals in $runs run(s), $scripts of them to with_grace.sh: $startups during the start, $evaluations during an evaluation, $writes while a checkpoint was being written; the longest took $longest ms"

# A second signal ends the job at once.
rm train.log
"${train2[@]}" --run twice 2> train.log &
launcher=$!
until grep -qs '^step 2/' train.log; do sleep 0.01; kill -0 $launcher; done
rank=$(ranks $launcher | sed -n 1p)
kill -STOP "$rank" && kill -USR1 "$rank" && kill -TERM "$rank" && kill -CONT "$rank"
code=0
wait $launcher || code=$?
[ $code -eq 1 ] || { cat train.log; fail "exit code $code after two signals"; }

# A batch system sends TERM to a script, a terminal INT, which shells have their background jobs ignore.
for signal in TERM INT; do
  rm train.log
  # A group of its own, all of which a terminal signals.
  setsid env --default-signal=INT bash "$SOURCE/launch/with_grace.sh" "${train2[@]}" --run script$signal 2> train.log &
  script=$!
  until grep -qs '^step 2/' train.log; do sleep 0.01; kill -0 $script; done
  if [ $signal = INT ]; then kill -INT -- -$script; else kill -TERM $script; fi
  code=0
  wait $script || code=$?
  [ $code -eq 5 ] || { cat train.log; fail "exit code $code of the script after $signal"; }
done
