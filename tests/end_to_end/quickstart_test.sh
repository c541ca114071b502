#!/usr/bin/env bash
# The quick start as its user runs it: at most 12 minutes in all and 5 of training; it must begin at ln(vocab), end below
# xz on held-out text and leave its files.
set -euo pipefail
cd "$SOURCE"
fail() { echo "error: $*"; exit 1; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
begin=$SECONDS
bash launch/quickstart.sh | tee "$log" || fail "the quick start ended with exit code $?"
took=$((SECONDS - begin))

# at STEP: seconds from the start to "== STEP (N s)".
at() { sed -nE "s/^== $1 \(([0-9]+) s\)$/\1/p" "$log"; }
training=$(($(at 'held-out text') - $(at training)))
echo "the quick start took $took s, $training s of them for training"
[ $took -le 720 ] || fail "the quick start took $took s, more than 12 minutes"
[ $training -le 300 ] || fail "training took $training s, more than 5 minutes"

number() { sed -E "s/.*\"$1\":([0-9.e-]+).*/\1/"; }
for field in loss lm_loss; do
  head -n 1 runs/quickstart/metrics.jsonl | number $field |
    awk '{ d = $1 / log(4096) - 1; exit (d < 0 ? -d : d) > 0.01 }' || fail "$field does not begin within 1 % of ln(vocab)"
done
model=$(awk '$1 == "mean" { print $4 }' build/quickstart/eval.txt)
xz=$(awk '/bits per byte/ { print $5 }' build/quickstart/xz.txt)
awk -v model="$model" -v xz="$xz" 'BEGIN { exit !(model > 0 && model < xz) }' || fail "held-out bits per byte $model, xz reaches $xz"
