#!/usr/bin/env bash
# A report of a study: it has what its runs logged, and needs nothing but itself. REPORT: keep it under this name.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
[ -x "$(dirname "$SLUICE")/sluice-analysis" ] || { echo "skipped: sluice-analysis is not built, there is no Ceres"; exit 77; }
make_data
cat > study.textproto <<'EOF'
config: "config.textproto"
set: "training.steps=44" set: "data.eval_windows=4"
axis { name: "lr" field: "optimizer.lr" value: "1e-3" value: "1e-2" value: "0.1" value: "1e30" }
axis { name: "gate" choice { name: "none" set: "model.gates=" } choice { name: "G1" } }
stop { window: 4 rise: 4 }
EOF
"$SLUICE" sweep --study study.textproto --run study > table 2> sweep.log || { cat sweep.log; fail "sweep"; }
cell=study/cells/lr=1e-2,gate=G1
"$SLUICE" eval --checkpoint $cell/checkpoints/step_00000044 --data data.heldout --diagnostics --json \
  --set 'evaluation.attention_map={layers: 1}' > $cell/diagnostics.json 2> eval.log || { cat eval.log; fail "eval"; }
# Two runs of other sizes and lengths make it a scaling study, too.
for size in "32 20" "32 30" "48 20" "48 30" "64 20"; do
  set -- $size
  "$SLUICE" train --config config.textproto --set model.hidden_size=$1 --set training.steps=$2 --run more/$1_$2 2> train.log ||
    { cat train.log; fail "train"; }
done

"$SLUICE" report study more --out report.html > said || fail "report"
grep -q "report.html: 13 runs" said || { cat said; fail "what it says"; }
for part in 'id="learning-rates"' 'id="losses"' 'id="scaling"' 'id="gates"' 'id="layers"' 'id="speed"' 'id="runs"' \
  'Training loss, gate=G1' 'LR sensitivity' 'Share of G1 scores, lr=1e-2,gate=G1' 'Mean attention in layer 1' \
  'lr=1e30,gate=none' '48_30' 'alpha'; do
  grep -qF -- "$part" report.html || fail "there is no $part"
done
! grep -qE 'https?:|<script|src=|@import|url\(' report.html || fail "it refers to something else"
# The best rate and loss of a variant are those of the best of its cells in the sweep's table; one of each diverged.
read -r best_loss best_cell < <(awk '/gate=G1 / && $2 == "done" { print $4, $1 }' table | sort -g | head -1)
best_rate=$(sed -E 's/lr=([^,]*),.*/\1/' <<< "$best_cell" | awk '{ print $1 + 0 }')
cell() { printf '<td class="number">%s</td>' "$1"; }
grep -F "<td>gate=G1</td>$(cell 4)$(cell "$best_rate")$(cell "$best_loss")" report.html | grep -qF "$(cell 1)$(cell 0)</tr>" ||
  fail "the best of gate=G1 is not $best_rate with $best_loss, one diverged, no spike: $(grep -F 'gate=G1</td>' report.html)"
[ -z "${REPORT:-}" ] || cp report.html "$REPORT"

# The law is that of `sluice fit`, which names what it leaves out; of one size there is none.
"$SLUICE" fit study more --json > fit.json 2> said || { cat said; fail "fit"; }
for part in '"runs":7' '"run":"study/cells/lr=1e30,gate=none"' '"extrapolations":[{' '"alpha":{"value":'; do
  grep -qF -- "$part" fit.json || { cat fit.json; fail "fit has no $part"; }
done
"$SLUICE" fit study more --set parameters=TOTAL --set budget=1e15 > fit.txt 2> said && grep -q 'N the total parameters' fit.txt &&
  grep -q ' 1e+15 ' fit.txt && grep -q '^left out: study/cells/lr=1e30' fit.txt || { cat said fit.txt; fail "fit of total parameters"; }
code=0
"$SLUICE" fit study > fit.txt 2> said || code=$?
[ $code -eq 1 ] && grep -q "a scaling law needs" said && grep -q "left out study/cells/lr=1e30" said || { cat said; fail "fit of one size"; }

# One run by itself, and what is no run.
"$SLUICE" report $cell --out one.html > said || fail "one run"
! grep -qE 'id="(learning-rates|scaling)"' one.html || fail "one run is no study"
code=0
"$SLUICE" report nowhere --out none.html 2> said || code=$?
[ $code -eq 1 ] && grep -q "nowhere: no such folder" said && [ ! -e none.html ] || { cat said; fail "a folder that is not there"; }
echo '{"sets": []}' > $cell/diagnostics.json
code=0
"$SLUICE" report study --out none.html 2> said || code=$?
[ $code -eq 1 ] && grep -q "diagnostics.json: is not what sluice eval" said || { cat said; fail "damaged diagnostics"; }
