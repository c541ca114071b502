#!/usr/bin/env bash
# From text to a sample, on one and two ranks; repeats to the last digit; layouts and recomputation change nothing.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
train() { "$SLUICE" train --config config.textproto --run "$1" "${@:2}" 2> "$1.log" || { cat "$1.log"; fail "train $1"; }; }
train2() { mpirun -np 2 "$SLUICE" train --config config.textproto --run "$1" "${@:2}" 2> "$1.log" || { cat "$1.log"; fail "train $1"; }; }

train one
step=one/checkpoints/step_00000020
for file in one/config.textproto one/metrics.jsonl $step/shard-00000-of-00001.safetensors $step/tokenizer.json $step/manifest.textproto; do
  [ -s "$file" ] || fail "$file is missing"
done
ls one/events.out.tfevents.* >/dev/null
# The quick start's machine needs a fifth of a second; this one may have other work.
startup=$(sed -nE 's/^start-up: ([0-9]+) ms.*/\1/p' one.log)
[ -n "$startup" ] && [ "$startup" -lt 5000 ] || fail "the start-up took \"$startup\" ms: $(cat one.log)"

# The first loss is that of a model that knows nothing, and it falls.
awk -F'[:,]' 'function abs(x) { return x < 0 ? -x : x }
  { for (i = 1; i < NF; ++i) if ($i == "\"lm_loss\"") loss = $(i + 1); if (NR == 1) first = loss }
  END { if (abs(first / log(512) - 1) > 0.01 || loss > 0.9 * first) { print "losses", first, loss; exit 1 } }' one/metrics.jsonl ||
  fail "the loss does not start at ln(vocab) or does not fall"

train again
diff <(losses one) <(losses again) || fail "a second run differs"
cmp one/checkpoints/step_00000020/shard-00000-of-00001.safetensors again/checkpoints/step_00000020/shard-00000-of-00001.safetensors

(ulimit -v 4000000; train small_space)
diff <(losses one) <(losses small_space) || fail "a limit on the address space changes the numbers"

train recomputed --set 'training.recompute[0]={first_layer: 0 last_layer: 1}'
diff <(losses one) <(losses recomputed) || fail "recomputation changes the numbers"

train2 two --set training.micro_batch_size=2
train2 two_again --set training.micro_batch_size=2
diff <(losses two) <(losses two_again) || fail "a second run on two ranks differs"

# In f64, one rank and two with the same sequences a micro-step agree to rounding.
train one64 --set precision=F64
train2 two64 --set precision=F64 --set training.micro_batch_size=2
paste <(losses one64) <(losses two64) | awk -F'"loss":' '
  function abs(x) { return x < 0 ? -x : x }
  { split($2, a, ","); split($3, b, ","); if (abs(a[1] / b[1] - 1) > 1e-12) { print "step", NR, a[1], b[1]; exit 1 } }
  END { if (NR != 20) exit 1 }' || fail "two ranks differ from one in f64"

"$SLUICE" eval --checkpoint $step --data data.heldout --json > eval.json 2>/dev/null
grep -q '"bits_per_byte"' eval.json || fail "eval --json"
mpirun -np 2 "$SLUICE" eval --checkpoint two/checkpoints/step_00000020 --data data.heldout > eval.txt 2>/dev/null
grep -q '^mean' eval.txt || fail "eval on two ranks"
logged=$(tail -n 1 one/metrics.jsonl | sed -E 's/.*"eval_loss.own":([0-9.]+).*/\1/')
evaluated=$(sed -E 's/.*"loss":([0-9.]+).*/\1/' eval.json)
awk -v a="$logged" -v b="$evaluated" 'BEGIN { d = a / b - 1; exit (d < 0 ? -d : d) > 1e-6 }' || fail "eval says $evaluated, training $logged"

# A window is no longer than the set.
timeout 20 "$SLUICE" eval --checkpoint $step --data data.heldout --length 100000000 > /dev/null 2>&1 || fail "eval of one long window"

"$SLUICE" generate --checkpoint $step --prompt "namespace" --tokens 20 --temperature 0 > sample.txt 2>/dev/null
"$SLUICE" generate --checkpoint two/checkpoints/step_00000020 --prompt "namespace" --tokens 20 > /dev/null 2>&1
# The prompt, something new (a line break may be its beginning), and the line's end.
grep -q '^namespace' sample.txt && [ "$(wc -c < sample.txt)" -gt 10 ] || fail "generate: $(cat sample.txt)"

for command in "" train verify eval generate data "data tokenizer" "data build" "data info" spikes bench "bench step"; do
  # shellcheck disable=SC2086
  "$SLUICE" $command --help > help.txt || fail "$command --help"
  grep -q Example help.txt || fail "$command --help has no example"
done

# The detector of spikes runs over a run's losses.
"$SLUICE" spikes one/metrics.jsonl --json > spikes.json
[ "$(cat spikes.json)" = '{"episodes":[]}' ] || fail "spikes: $(cat spikes.json)"
{ echo step,lm_loss; for ((i = 1; i <= 100; ++i)); do echo "$i,$((i == 80 ? 9 : 3)).$((i * 7 % 10))"; done; } > curve.csv
"$SLUICE" spikes curve.csv --json | grep -qE '^\{"episodes":\[\{"first_step":80,"last_step":80,"peak_step":80,"peak_loss":9\.0,"baseline_loss":3\.[0-9]+,"score":[0-9.]+\}\]\}$' ||
  fail "spikes: $("$SLUICE" spikes curve.csv --json)"

# A run's diagnostics cost less than a hundredth of a step, even of one that is logged and has one micro-step.
"$SLUICE" bench step --config "$SOURCE/configs/quickstart.textproto" --set cpu.threads=1 --set training.global_batch_size=8 \
  --steps 1 --json > bench.json 2> bench.log || { cat bench.log; fail "bench step"; }
share=$(sed -E 's/.*"diagnostics_share":([0-9.]+).*/\1/' bench.json)
awk -v share="$share" 'BEGIN { exit !(share > 0 && share < 0.01) }' || fail "diagnostics: $(cat bench.json)"
# So does looking for values that are not finite, in every step.
share=$(sed -E 's/.*"watched_share":([0-9.]+).*/\1/' bench.json)
awk -v share="$share" 'BEGIN { exit !(share > 0 && share < 0.01) }' || fail "not finite: $(cat bench.json)"
