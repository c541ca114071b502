#!/usr/bin/env bash
# A sweep of 24 cells on two ranks: one rank is killed while it works at a cell, later the whole job; the same command
# again runs what is missing. Every cell ends once, as the same run by itself does.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
cat > study.textproto <<'EOF'
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
sweep() { mpirun -np 2 --enable-recovery "$SLUICE" sweep --study study.textproto --run study "$@"; }
ended() { grep -ls '"outcome":"d' study/cells/*/cell.json | wc -l; }
# until_ended N: of the job in the background.
until_ended() {
  until [ "$(ended)" -ge "$1" ]; do
    kill -0 "$job" 2> /dev/null || { cat job.log; fail "the job has ended before $1 cells have"; }
    sleep 0.02
  done
}
ranks() { pgrep -f "^$SLUICE sweep --study study.textproto" || true; }

sweep > table 2> job.log &
job=$!
until_ended 3
victim=$(ranks | tail -1)
kill -9 "$victim"
before=$(ended)
until_ended $((before + 4))
[ "$(ranks | wc -l)" -eq 1 ] || fail "the other rank does not go on"
kill -9 $job $(ranks)
wait $job 2> /dev/null || true
until [ -z "$(ranks)" ]; do sleep 0.05; done
before=$(ended)
[ "$before" -lt 24 ] || fail "there was nothing left to do for the second job"
grep -h '"outcome":"d' study/cells/*/cell.json | sort > ended_before

sweep > table 2> job.log || { cat job.log; fail "the second job"; }
[ "$(ended)" -eq 24 ] || { cat table job.log; fail "$(ended) cells have ended"; }
[ "$(grep -c '^cell .* ended)$' job.log)" -eq $((24 - before)) ] || { cat job.log; fail "the second job has not run what was missing"; }
grep -hF -f ended_before study/cells/*/cell.json | sort | cmp - ended_before || fail "what had ended has run again"
[ "$(tail -n +2 table | wc -l)" -eq 24 ] || { cat table; fail "not all cells are in the table"; }
# Two that were killed, at most, and those in whose end the kill came.
again=$(grep -Lh '"starts":1,' study/cells/*/cell.json | wc -l)
[ "$again" -ge 1 ] && [ "$again" -le 3 ] || { cat table; fail "$again cells were started more than once"; }
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
"$SLUICE" sweep --study study.textproto --run study > again 2> job.log || { cat job.log; fail "a complete study"; }
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
"$SLUICE" sweep --study study.textproto --run study > table 2> job.log &
job=$!
until_ended 2
sleep 0.3
kill -TERM $job
code=0
wait $job || code=$?
[ $code -eq 5 ] || { cat job.log; fail "exit code $code after a signal"; }

# What cannot be told apart is refused, and one cell that cannot start spoils nothing.
sed 's/value: "10"/value: "11"/; s/training.steps=40/training.seed=5/' study.textproto > other.textproto
code=0
"$SLUICE" sweep --study other.textproto --run study > /dev/null 2> job.log || code=$?
[ $code -eq 1 ] && grep -q "training.seed" job.log || { cat job.log; fail "a study that has changed"; }
echo "killed with $before of 24 cells ended, $again started again, $diverged diverged"
