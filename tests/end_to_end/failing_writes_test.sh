#!/usr/bin/env bash
# Each system call of the writer of checkpoints fails once, in each way that it can: the run goes on or dies, and a
# second session without failures goes on from a good checkpoint and ends like a run that met none, to the last bit.
# On one rank, then of either of two. SLUICE_FAULTS=all tries every call on one rank and 60 of either of two, otherwise
# 12 and 3, beginning with one that SLUICE_SEED chooses, which is the day of the year.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
# Wide enough for shards of several blocks.
train=("$SLUICE" train --config config.textproto --set model.moe.moe_intermediate_size=256 --set training.steps=8
  --set checkpoint.every=2 --set checkpoint.keep=1 --set data.eval_every=0 --set logging.tensorboard=false --set training.global_batch_size=4)
train2=(mpirun -np 2 "${train[@]}" --set model.moe.moe_intermediate_size=512 --set training.micro_batch_size=2)
last=checkpoints/step_00000008
calls=12 calls2=3
[ "${SLUICE_FAULTS:-}" != all ] || calls=1000000 calls2=60
RANDOM=${SLUICE_SEED:=$(date +%-j)}
echo "SLUICE_SEED=$SLUICE_SEED"

# session CODE MODE CALL: a session of "${job[@]}" in run/, whose CALL of $rank fails so, and which ends with this code;
# maybe: 6 if audit.jsonl tells of a checkpoint that failed, else 0. The checkpoints that are there afterwards are whole.
session() {
  local code=0
  # The shell tells of a killed program: in the log.
  (
    FAILING_IO_PATH=/checkpoints FAILING_IO_MODE=$2 FAILING_IO_AT=$3 FAILING_IO_RANK=$rank FAILING_IO_LOG=$PWD/calls \
      LD_PRELOAD=$FAILING_IO "${job[@]}" --run run || exit
  ) > session.log 2>&1 || code=$?
  # Until the first step a folder that cannot be used is an error.
  [ $code -ne 1 ] || [ -s run/metrics.jsonl ] || return 0
  ! grep '^0 leak' calls || fail "call $3, $2: a file is still open"
  [ $code -ne 6 ] || code=failed
  local failed=0
  ! grep -q '"event":"checkpoint_failed"' run/audit.jsonl 2> /dev/null || failed=failed
  [ $code = "$1" ] || [ "$1 $code" = "maybe $failed" ] || { cat session.log; fail "call $3, $2: exit code $code, $failed"; }
  local folder
  for folder in run/checkpoints/step_*; do
    [ ! -e "$folder/manifest.textproto" ] || "$SLUICE" checkpoint verify "$folder" > verify.log 2>&1 || { cat verify.log; fail "call $3, $2"; }
  done
}
# ends_well WHAT: after what has happened, a session without failures ends like the one in straight/.
ends_well() {
  "${job[@]}" --run run > again.log 2>&1 || { cat session.log again.log; fail "$1: the next session"; }
  diff <(losses straight) <(losses run) || fail "$1: the losses differ"
  diff -r straight/$last run/$last || fail "$1: the last checkpoint differs"
}

# each_fails NAME COUNT: of about so many calls of $rank.
each_fails() {
  local total stride tried=0 resumed=0 failed=0 call mode name code
  rm -rf straight run calls
  "${job[@]}" --run straight 2> straight.log || { cat straight.log; fail "train straight"; }
  session 0 none 0
  total=$(wc -l < calls)
  [ "$total" -gt 50 ] || { cat calls; fail "only $total calls"; }
  # Of four checkpoints.
  [ "$(grep -c pwrite calls)" -ge 8 ] || { cat calls; fail "shards of one block"; }
  mv calls all_calls
  stride=$((total > $2 ? total / $2 : 1))
  for ((call = 1 + RANDOM % stride; call <= total; call += stride)); do
    for mode in error full short kill; do
      rm -rf run calls
      name=$(sed -nE "s/^$call ([a-z0-9]+) .*/\1/p" all_calls)
      [ $mode != short ] || [[ $name = *write ]] || continue
      case $mode in
        error | full) code=maybe ;;
        short) code=0 ;;
        kill) code=137 ;;
      esac
      session $code $mode $call
      ! grep -q '"event":"checkpoint_failed"' run/audit.jsonl 2> /dev/null || failed=$((failed + 1))
      ends_well "call $call, $(sed -n "${call}p" all_calls), $mode"
      ! grep -q '"event":"resume"' run/audit.jsonl 2> /dev/null || resumed=$((resumed + 1))
      tried=$((tried + 1))
    done
  done
  echo "$1: $tried failures of $total calls; $failed sessions told of a checkpoint that failed, $resumed went on from one"
  [ $failed -gt 0 ] && [ $resumed -gt 0 ] || fail "nothing failed"
}

job=("${train[@]}") rank=
each_fails "one rank" $calls
for call in open close write fallocate pwrite ftruncate fsync rename mkdir remove unlinkat stat statvfs readdir; do
  grep -qE "^[0-9]+ $call" all_calls || { cat all_calls; fail "no call of $call"; }
done
# Without O_DIRECT shards are the same.
rm -rf run calls
session 0 cached 0
diff -r straight/$last run/$last || fail "cached: the last checkpoint differs"
job=("${train2[@]}")
for rank in 0 1; do each_fails "rank $rank of two" $calls2; done
