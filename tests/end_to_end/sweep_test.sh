#!/usr/bin/env bash
# A sweep of 24 cells on two ranks: one rank is killed while it works at a cell, later the whole job; the same command
# again, of which a rank is killed too, runs what is missing. Every cell ends once, as the same run by itself does.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
cat > rates.textproto <<'EOF'
config: "config.textproto"
set: "training.steps=40" set: "checkpoint.every=10" set: "data.eval_windows=4"
axis {
  name: "lr" field: "optimizer.lr"
  value: "1e-4" value: "3e-4" value: "1e-3" value: "3e-3" value: "1e-2" value: "3e-2"
  value: "0.1" value: "0.3" value: "1" value: "3" value: "10" value: "1e30"
}
axis { name: "gate" choice { name: "none" set: "model.gates=" } choice { name: "G1" } }
stop { window: 4 rise: 4 }
EOF
sweep() { mpirun -np 2 --enable-recovery "$SLUICE" sweep --study rates.textproto --run study "$@"; }
ended() { grep -ls '"outcome":"d' study/cells/*/cell.json | wc -l; }
# until_ended N: of the job in the background.
until_ended() {
  until [ "$(ended)" -ge "$1" ]; do
    kill -0 "$job" 2> /dev/null || { cat job.log; fail "the job has ended before $1 cells have"; }
    sleep 0.02
  done
}
ranks() { pgrep -f "^$SLUICE sweep --study rates.textproto" || true; }

sweep > table 2> job.log &
job=$!
until_ended 3
victim=$(ranks | tail -1)
kill -9 "$victim"
before=$(ended)
until_ended $((before + 4))
[ "$(ranks | wc -l)" -eq 1 ] || fail "the other rank does not go on"
kill -9 $(pgrep -f '^mpirun -np 2 --enable-recovery .* --study rates.textproto') $(ranks)
wait $job 2> /dev/null || true
until [ -z "$(ranks)" ]; do sleep 0.05; done
before=$(ended)
[ "$before" -lt 20 ] || fail "there was too little left to do for the second job: $before cells have ended"
grep -h '"outcome":"d' study/cells/*/cell.json | sort > ended_before

sweep > table 2> job.log &
job=$!
until_ended $((before + 2))
kill -9 "$(ranks | head -1)"
wait $job || { cat job.log; fail "the second job"; }
[ "$(ended)" -eq 24 ] || { cat table job.log; fail "$(ended) cells have ended"; }
[ "$(grep -c '^cell .* ended)$' job.log)" -eq $((24 - before)) ] || { cat job.log; fail "the second job has not run what was missing"; }
grep -hF -f ended_before study/cells/*/cell.json | sort | cmp - ended_before || fail "what had ended has run again"
[ "$(tail -n +2 table | wc -l)" -eq 24 ] || { cat table; fail "not all cells are in the table"; }
# The kills met three or four ranks, of which some may have been between cells.
again=$(grep -Lh '"starts":1,' study/cells/*/cell.json | wc -l)
[ "$again" -ge 1 ] && [ "$again" -le 4 ] || { cat table; fail "$again cells were started more than once"; }
diverged=$(grep -ls '"outcome":"diverged"' study/cells/*/cell.json | wc -l)
[ "$diverged" -ge 2 ] && [ "$diverged" -lt 20 ] || { cat table; fail "$diverged cells have diverged"; }
for cell in study/cells/*; do
  awk -F'[:,]' '$2 != NR { exit 1 }' "$cell/metrics.jsonl" || fail "$cell does not have every step once"
  grep -q '"outcome":"diverged"' "$cell/cell.json" || [ "$(wc -l < "$cell/metrics.jsonl")" -eq 40 ] || fail "$cell has not all steps"
done

# Those that were killed too end as runs that nobody disturbs.
for cell in $(grep -L '"starts":1,' study/cells/*/cell.json) study/cells/lr=3e-3,gate=G1/cell.json; do
  cell=$(dirname "$cell")
  code=0
  "$SLUICE" train --config "$cell/config.textproto" --run alone > /dev/null 2> train.log || code=$?
  # The study's rule is not that of a single run.
  if ! grep -q stop.rise "$cell/cell.json"; then
    [ $code -eq 0 ] || [ $code -eq 4 ] || { cat train.log; fail "$cell alone"; }
    losses alone | cmp - <(losses "$cell") || fail "$cell differs from the same run by itself"
  fi
  rm -rf alone
done

# A complete study says so and runs nothing, also by itself.
"$SLUICE" sweep --study rates.textproto --run study > again 2> job.log || { cat job.log; fail "a complete study"; }
cmp table again || fail "the table of a complete study has changed"

# Its report has every cell.
if [ -x "$(dirname "$SLUICE")/sluice-analysis" ]; then
  "$SLUICE" report study --out report.html > said || { cat said; fail "the report"; }
  for cell in study/cells/*; do
    [ "$(grep -oF "<td>$(basename "$cell")</td>" report.html | wc -l)" -eq 1 ] || fail "$cell is not in the report once"
  done
fi

# A signal: what is under way is saved, and goes on.
rm -rf study
"$SLUICE" sweep --study rates.textproto --run study > table 2> job.log &
job=$!
until_ended 2
sleep 0.3
kill -TERM $job
code=0
wait $job || code=$?
[ $code -eq 5 ] || { cat job.log; fail "exit code $code after a signal"; }
before=$(ended)
[ "$before" -lt 24 ] || fail "the signal came too late"
"$SLUICE" sweep --study rates.textproto --run study > table 2> job.log || { cat job.log; fail "after a signal"; }
[ "$(ended)" -eq 24 ] || fail "the study does not go on after a signal"
[ "$(grep -c '^cell .* ended)$' job.log)" -eq $((24 - before)) ] || { cat job.log; fail "it has run other than what was missing"; }

# A study that has changed since.
sed 's/value: "10"/value: "11"/; s/training.steps=40/training.seed=5/' rates.textproto > other.textproto
code=0
"$SLUICE" sweep --study other.textproto --run study > /dev/null 2> job.log || code=$?
[ $code -eq 1 ] && grep -q "training.seed" job.log || { cat job.log; fail "a study that has changed"; }

# A cell that cannot begin has failed, and spoils nothing; the next job tries it again. It warns that a rank could end it.
cat > broken.textproto <<'EOF'
config: "config.textproto"
set: "training.steps=5"
axis { name: "data" choice { name: "there" } choice { name: "gone" set: "data.train[0].prefix=gone" } }
EOF
for try in 1 2; do
  code=0
  mpirun -np 2 "$SLUICE" sweep --study broken.textproto --run broken > table 2> job.log || code=$?
  [ $code -eq 1 ] && grep -q '^data=there  done ' table && grep -q '^data=gone   failed .*gone.idx' table || { cat table job.log; fail "a cell without data"; }
  grep -q 'without mpirun --enable-recovery a rank that dies ends the whole job' job.log || { cat job.log; fail "no warning"; }
  grep -q "\"starts\":$((3 * try))," broken/cells/data=gone/cell.json || fail "not three tries a job: $(cat broken/cells/data=gone/cell.json)"
done

# Two ranks a cell; one of four is killed, and takes its partner along after the watchdog's deadline. The others do its cell.
cat > pairs.textproto <<'EOF'
config: "config.textproto"
set: "mesh.ep=2" set: "training.steps=60" set: "watchdog.deadline_s=3" set: "checkpoint.every=10"
axis { name: "lr" field: "optimizer.lr" value: "1e-3" value: "2e-3" value: "3e-3" value: "1e30" }
ranks: 2
stop { window: 4 rise: 4 }
EOF
mpirun -np 4 --enable-recovery "$SLUICE" sweep --study pairs.textproto --run pairs > table 2> job.log &
job=$!
until grep -q '"step":10,' pairs/cells/lr=1e-3/metrics.jsonl 2> /dev/null; do kill -0 $job || { cat job.log; fail "pairs"; }; sleep 0.05; done
kill -9 "$(pgrep -f "^$SLUICE sweep --study pairs.textproto" | head -1)"
wait $job || { cat job.log; fail "pairs"; }
[ "$(grep -c ' done ' table)" -eq 3 ] && [ "$(grep -c ' diverged ' table)" -eq 1 ] || { cat table job.log; fail "not all pairs' cells have ended"; }
[ "$(grep -Lh '"starts":1,' pairs/cells/*/cell.json | wc -l)" -eq 1 ] || { cat table; fail "not one cell was started twice"; }
# A signal has both ranks of a cell save it.
mpirun -np 2 --enable-recovery "$SLUICE" sweep --study pairs.textproto --run stopped > again 2> job.log &
job=$!
until grep -q '"step":15,' stopped/cells/lr=1e-3/metrics.jsonl 2> /dev/null; do kill -0 $job || { cat job.log; fail "pairs"; }; sleep 0.02; done
kill -USR1 "$(pgrep -f '^mpirun -np 2 --enable-recovery .* --run stopped')"
wait $job || true
grep -q '"event":"preempted"' stopped/cells/lr=1e-3/audit.jsonl && grep -q '"outcome":"none".*"vain_starts":0' stopped/cells/lr=1e-3/cell.json ||
  { cat job.log stopped/cells/lr=1e-3/cell.json; fail "a pair was not saved after a signal"; }
mpirun -np 2 --enable-recovery "$SLUICE" sweep --study pairs.textproto --run stopped > again 2> job.log || { cat job.log; fail "pairs after a signal"; }
awk '{ print $1, $2, $3, $4 }' again | cmp - <(awk '{ print $1, $2, $3, $4 }' table) || { cat table again; fail "pairs after a signal end otherwise"; }
# To look at it one rank will do.
"$SLUICE" sweep --study pairs.textproto --run pairs 2> job.log | cmp - table || { cat job.log; fail "a complete study of pairs"; }
echo "killed with $before of 24 cells ended, $again started again, $diverged diverged"
