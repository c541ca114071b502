#!/usr/bin/env bash
# A rank of a training job that is stopped, at any time, is named within 5 s of the deadline; the job ends with code 3.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
deadline=2
for ((run = 0; run < 20; ++run)); do
  culprit=$((run % 2)) code=0
  rm -rf run
  mpirun -np 2 "$SLUICE" train --config config.textproto --run run --set training.steps=100000 \
    --set optimizer.warmup_steps=1 --set logging.every=1 --set watchdog.deadline_s=$deadline \
    --set checkpoint.every=50 > job.log 2>&1 &
  job=$!
  for ((i = 0; i < 200; ++i)); do
    [ -s run/metrics.jsonl ] && [ "$(wc -l < run/metrics.jsonl)" -ge 3 ] && break
    sleep 0.1
  done
  sleep "0.$((RANDOM % 10))"
  stopped=0
  for pid in $(pgrep -P $job); do
    if grep -qzx "OMPI_COMM_WORLD_RANK=$culprit" "/proc/$pid/environ"; then
      kill -STOP "$pid" && stopped=$((stopped + 1))
    fi
  done
  [ $stopped -eq 1 ] || fail "$stopped processes are rank $culprit"
  began=$(date +%s%3N)
  wait $job || code=$?
  took=$(($(date +%s%3N) - began))
  [ $code -eq 3 ] || fail "exit code $code: $(cat job.log)"
  [ $took -lt $(((deadline + 5) * 1000)) ] || fail "took $took ms"
  grep -aEq "error: rank $culprit \(.*is silent.*; waiting: rank $((1 - culprit)) in .* at .*\.(cc|h):[0-9]+.*step [0-9]+" job.log ||
    fail "rank $culprit is not named: $(grep -a error job.log)"
done
