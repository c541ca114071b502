#!/usr/bin/env bash
# A trained model goes on at four times its length with another RoPE base and a new gate, and is looked at: diagnostics,
# long-context tasks, YaRN.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
train() { "$SLUICE" train --config config.textproto --run "$1" "${@:2}" 2> "$1.log" || { cat "$1.log"; fail "train $1"; }; }
evaluate() { "$SLUICE" eval --checkpoint "$1" --data data.heldout "${@:2}" 2> eval.log || { cat eval.log; fail "eval ${*:2}"; }; }
# number NAME FILE: the first value under a name in JSON.
number() { grep -oE "\"$1\":[-0-9.e+]+" "$2" | head -n 1 | cut -d: -f2; }
near() { awk -v a="$1" -v b="$2" -v by="$3" 'BEGIN { d = a - b; exit (d < 0 ? -d : d) > by }'; }

# No gate at first.
sed -i '/gates/d' config.textproto
train short --set training.steps=60
step=short/checkpoints/step_00000060

# A new gate that changes nothing yet: the same loss, to the last digit.
gate='model.gates[0]={position: G1 activation: TWICE_SIGMOID initialisation: ZERO}'
from=(--set "initial_checkpoint={path: \"$step\" missing: INIT}")
train gated "${from[@]}" --set "$gate" --set training.steps=1 --set optimizer.warmup_steps=0
train ungated "${from[@]}" --set training.steps=1 --set optimizer.warmup_steps=0
first() { number lm_loss <(head -n 1 "$1/metrics.jsonl"); }
[ -n "$(first gated)" ] && [ "$(first gated)" = "$(first ungated)" ] || fail "the gate changed $(first ungated) to $(first gated)"
grep -q '"gate_mean":\[1.0,1.0\]' gated/metrics.jsonl || fail "the scores of the new gate are not 1: $(head -n 1 gated/metrics.jsonl)"

train long "${from[@]}" --set "$gate" --set model.rope_theta=1000000 --set training.sequence_length=256 \
  --set training.micro_batch_size=1 --set training.global_batch_size=2 --set training.steps=60
awk -v first="$(first long)" 'BEGIN { exit !(first < 0.9 * log(512)) }' || fail "the continued run starts at $(first long)"
grep -q 'rope_theta: 1000000' long/config.textproto || fail "the run does not keep its RoPE base"
long=long/checkpoints/step_00000060
# On whole windows of its length it is better than what it started from, with either base.
evaluate $long --json > after.json
for base in 10000 1000000; do
  evaluate $step --length 256 --set model.rope_theta=$base --json > before.json
  awk -v before="$(number loss before.json)" -v after="$(number loss after.json)" 'BEGIN { exit !(after < before) }' ||
    fail "continued, the loss is $(number loss after.json), before with base $base $(number loss before.json)"
done

# Longer texts than trained on, with and without YaRN.
evaluate $long --length 1024 --json > plain.json
evaluate $long --length 1024 --json --set 'model.yarn={factor: 4 original_length: 256}' > yarn.json
[ "$(number loss plain.json)" != "$(number loss yarn.json)" ] || fail "YaRN changes nothing"
# Factor 1 stretches nothing.
evaluate $long --length 1024 --json --set 'model.yarn={factor: 1 original_length: 256}' > same.json
[ "$(number loss plain.json)" = "$(number loss same.json)" ] || fail "YaRN by 1 changes the loss"

# The suite: every task at every length, the same on any number of ranks.
suite=(--set 'evaluation.tasks={samples: 2 lengths: [256, 1024]}')
evaluate $long "${suite[@]}" > tasks.txt
for row in NEEDLE NEEDLE_IN_TEXT NEEDLE_UUID MULTI_KEY MULTI_KEY_NUMBERS MULTI_KEY_UUIDS MULTI_VALUE MULTI_QUERY \
  VARIABLE_TRACING COMMON_WORDS FREQUENT_WORDS mean; do
  grep -qE "^$row +([0-9.]+|-) +[0-9.]+$" tasks.txt || fail "no accuracy of $row: $(cat tasks.txt)"
done
evaluate $long "${suite[@]}" --json > tasks.json
mpirun -np 2 "$SLUICE" eval --checkpoint $long --data data.heldout "${suite[@]}" --json > tasks2.json 2>/dev/null
tasks() { grep -o '"tasks":{.*' "$1"; }
[ -n "$(tasks tasks.json)" ] && [ "$(tasks tasks.json)" = "$(tasks tasks2.json)" ] || fail "two ranks have other accuracies"

# Diagnostics leave the loss alone; the map's rows are probabilities.
evaluate $long --diagnostics --set 'evaluation.attention_map={layers: 1 positions: 3}' --json > diagnostics.json
evaluate $long --json > loss.json
[ "$(number loss diagnostics.json)" = "$(number loss loss.json)" ] || fail "diagnostics change the loss"
for field in first_token_attention sink_rate m_act attention_logit_max residual_max router_entropy; do
  [ -n "$(number $field diagnostics.json)" ] || fail "no $field in $(cat diagnostics.json)"
done
row=$(grep -oE '"attention_map":\[\[[0-9.]+\],\[[^]]*\],\[[^]]*\]\]' diagnostics.json) || fail "no attention map in $(cat diagnostics.json)"
near "$(echo "$row" | sed -E 's/.*\[([^]]*)\]\]/\1/' | tr , + | awk -F+ '{ print $1 + $2 + $3 }')" 1 1e-4 || fail "map $row"
evaluate $long --diagnostics > diagnostics.txt
grep -q '^F-Attn 0\.[0-9]* (of uniform attention 0\.[0-9]*), sink rate [0-9.]*, M-Act [0-9.]*$' diagnostics.txt || fail "diagnostics: $(cat diagnostics.txt)"
[ "$(grep -cE '^ +([01]|all) +G1 ' diagnostics.txt)" -eq 3 ] || fail "gates: $(cat diagnostics.txt)"

# What --set makes of a trained model.
evaluate $long --set model.moe.top_k=1 > /dev/null
grep -q 'changes the model' eval.log || fail "another top_k goes unnoticed: $(cat eval.log)"
evaluate $long --set model.rope_theta=500000 > /dev/null
! grep -q 'changes the model' eval.log || fail "another RoPE base is reported: $(cat eval.log)"
refused() {
  code=0
  "$SLUICE" eval --checkpoint $long --data data.heldout "${@:2}" > /dev/null 2> eval.log || code=$?
  [ $code -eq 1 ] && grep -q "$1" eval.log || fail "${*:2}: exit code $code, $(cat eval.log)"
}
refused 'model.num_attention_heads=8, but .* was trained with 4' --set model.num_attention_heads=8 --set model.head_dim=8
refused 'cpu.threads=0 must be between' --set cpu.threads=0
