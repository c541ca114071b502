#!/usr/bin/env bash
# A trained model goes on at four times its length with another RoPE base and a new gate, and is looked at: diagnostics
# and what is refused. Another has learnt to find the frequent words of lists: YaRN and long-context tasks.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
train() { "$SLUICE" train --config config.textproto --run "$1" "${@:2}" 2> "$1.log" || { cat "$1.log"; fail "train $1"; }; }
evaluate() { "$SLUICE" eval --checkpoint "$1" --data data.heldout "${@:2}" 2> eval.log || { cat eval.log; fail "eval ${*:2}"; }; }
# number NAME FILE: the first value under a name in JSON.
number() { grep -oE "\"$1\":[-0-9.e+]+" "$2" | head -n 1 | cut -d: -f2; }
# refused PATTERN COMMAND...: exit code 1 and one error, which matches.
refused() {
  local pattern=$1 code=0
  shift
  "$@" > /dev/null 2> refused.log || code=$?
  [ $code -eq 1 ] && [ "$(grep -c 'error:' refused.log)" -eq 1 ] && grep 'error:' refused.log | grep -q "$pattern" ||
    fail "$*: exit code $code, $(cat refused.log)"
}
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'; }
near() { awk -v a="$1" -v b="$2" -v by="$3" 'BEGIN { d = a - b; exit (d < 0 ? -d : d) > by }'; }

# No gate at first.
sed -i '/gates/d' config.textproto
# Two threads would wait for each other where other tests run too.
echo 'cpu { threads: 1 }' >> config.textproto
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

# word_lists N COUNT: documents in the form of FREQUENT_WORDS, whose most frequent word comes COUNT times, as JSONL.
word_lists() {
  awk -v documents="$1" -v count="$2" '
    function letter(letters) { return substr(letters, int(rand() * length(letters)) + 1, 1) }
    function word(  text, syllables) {
      for (syllables = 2 + int(rand() * 2); syllables > 0; --syllables) text = text letter("bdfgklmnprstvz") letter("aeiou")
      return text letter("bdfgklmnprstvz")
    }
    BEGIN {
      srand(1)
      for (d = 0; d < documents; ++d) {
        n = 0
        for (rank = 1; rank <= 3; ++rank) {
          words[rank] = word()
          for (i = 1; i <= count / (rank * rank); ++i) list[n++] = words[rank]
        }
        text = "Words of a list follow, some of them many times. The list begins"
        for (; n > 0; list[i] = list[n]) { i = int(rand() * n--); text = text ", " list[i] }
        text = text ".\\nThat was the list. Which three words come most often in it? The three words that come most often are "
        printf "{\"text\": \"%s%s, %s and %s.\"}\n", text, words[1], words[2], words[3]
      }
    }'
}
build() { "$SLUICE" data build --tokenizer words.json --out "$1" "$1.jsonl" > /dev/null 2>&1; }
word_lists 4000 25 > lists.jsonl
# Other words, eight times as many.
word_lists 4040 200 | tail -n 40 > long_lists.jsonl
"$SLUICE" data tokenizer --vocab 512 --out words.json lists.jsonl > /dev/null 2>&1
build lists
build long_lists
# A dense layer takes less time to learn to copy than experts do.
train words --set model.moe= --set model.intermediate_size=64 --set data.tokenizer=words.json --set data.train[0].prefix=lists \
  --set data.eval= --set training.sequence_length=256 --set training.global_batch_size=16 --set training.steps=250
words=words/checkpoints/step_00000250
ask() { "$SLUICE" eval --checkpoint $words --data long_lists "$@" 2> eval.log || { cat eval.log; fail "eval ${*:2}"; }; }

# Where copying is all that there is to predict, YaRN makes up for a part of what is lost beyond the trained length.
yarn() { ask --length 2048 --json --set "model.yarn={factor: $1 original_length: 256}" > yarn.json; number loss yarn.json; }
ask --length 2048 --json > plain.json
plain=$(number loss plain.json)
stretched=$(yarn 4)
less "$stretched" "$(awk -v plain="$plain" 'BEGIN { print plain - 0.05 }')" || fail "with YaRN the loss is $stretched, without $plain"
# Factor 1 stretches nothing.
[ "$plain" = "$(yarn 1)" ] || fail "YaRN by 1 changes the loss"

# Every task at every length, "-" where it does not fit.
suite=(--set 'evaluation.tasks={samples: 2 lengths: [256, 2048]}')
ask "${suite[@]}" > tasks.txt
for row in NEEDLE NEEDLE_IN_TEXT NEEDLE_UUID MULTI_KEY MULTI_KEY_NUMBERS MULTI_KEY_UUIDS MULTI_VALUE MULTI_QUERY \
  VARIABLE_TRACING COMMON_WORDS FREQUENT_WORDS mean; do
  grep -qE "^$row +([0-9.]+|-) +[0-9.]+$" tasks.txt || fail "no accuracy of $row: $(cat tasks.txt)"
done
# Few words after so short a training, but some; the same on any number of ranks.
frequent=(--set 'evaluation.tasks={tasks: FREQUENT_WORDS samples: 100 lengths: [208, 256]}')
ask "${frequent[@]}" --json > tasks.json
mpirun -np 2 "$SLUICE" eval --checkpoint $words --data long_lists "${frequent[@]}" --json > tasks2.json 2>/dev/null
tasks() { grep -o '"tasks":{.*' "$1"; }
[ -n "$(tasks tasks.json)" ] && [ "$(tasks tasks.json)" = "$(tasks tasks2.json)" ] || fail "two ranks have other accuracies"
tasks tasks.json | grep -oE '"samples":100,"accuracy":[0-9.]+' | cut -d: -f3 > accuracies.txt
awk '$1 > 0.01 { ++good } END { exit good != 2 }' accuracies.txt || fail "no frequent words are found: $(tasks tasks.json)"

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

# Positions that look at the first token most are left out of its attention, and of nothing else.
evaluate $long --diagnostics --set evaluation.skip_first=4 --json > skip.json
less "$(number first_token_attention skip.json)" "$(number first_token_attention diagnostics.json)" || fail "skip_first leaves nothing out"
for field in sink_rate m_act loss; do
  [ "$(number $field skip.json)" = "$(number $field diagnostics.json)" ] || fail "skip_first changes $field"
done

# What --set makes of a trained model.
warns() { [ "$(grep -c "$1" eval.log)" -eq 1 ] || fail "not one warning: $1: $(cat eval.log)"; }
silent() { ! grep -q -e "$1" eval.log || fail "a warning without a reason: $(cat eval.log)"; }
evaluate $long --set model.moe.top_k=1 > /dev/null
warns 'changes the model'
evaluate $long --set model.rope_theta=500000 > /dev/null
silent 'changes the model'
map='evaluation.attention_map={layers: 0}'
evaluate $long --diagnostics --set "$map" > /dev/null
warns 'evaluation.attention_map shows with --diagnostics --json only'
evaluate $long --json --set "$map" --set evaluation.skip_first=1 > /dev/null
warns 'evaluation.attention_map shows with --diagnostics --json only'
warns 'evaluation.skip_first changes --diagnostics only'
evaluate $long --diagnostics --json --set "$map" --set evaluation.skip_first=1 > /dev/null
silent 'evaluation\.'
eval_long=("$SLUICE" eval --checkpoint $long --data data.heldout)
refused 'model.num_attention_heads=8, but .* was trained with 4' "${eval_long[@]}" --set model.num_attention_heads=8 --set model.head_dim=8
refused 'cpu.threads=0 must be between' "${eval_long[@]}" --set cpu.threads=0
refused 'evaluation.attention_map.layers is missing' "${eval_long[@]}" --set evaluation.attention_map.positions=3
refused 'evaluation.skip_first=64 leaves nothing of windows of 64 tokens' "${eval_long[@]}" --length 64 --diagnostics --set evaluation.skip_first=64

# Experts as wide as leaves a new model without its gates' parameters; those of a trained model stay as wide as they are.
parity=(--set model.ffn_parity_multiple=2)
train narrow --set "$gate" "${parity[@]}" --set training.steps=2 --set optimizer.warmup_steps=0
grep -q 'experts of width 28$' narrow.log && grep -q 'moe_intermediate_size: 28' narrow/config.textproto || fail "parity: $(cat narrow.log)"
evaluate narrow/checkpoints/step_00000002 > /dev/null
trained='was trained with 32; neither it nor model.ffn_parity_multiple can'
refused "model.moe.moe_intermediate_size=28, but .* $trained" "${eval_long[@]}" "${parity[@]}"
refused "model.moe.moe_intermediate_size=28, but initial_checkpoint.path=$step $trained" "$SLUICE" train --config config.textproto \
  --run refused "${from[@]}" --set "$gate" "${parity[@]}"

# An id that the model has and the tokenizer lacks is refused before the sets are evaluated, as tasks come after them.
train wider --set training.steps=1 --set optimizer.warmup_steps=0 --set model.vocab_size=600 --set data.eval=
for file in data.heldout.*; do cp "$file" "between${file#data.heldout}"; done
printf '\010\002' | dd of=between.bin conv=notrunc status=none
refused "between.bin: token 0: id 520 is not in the tokenizer's vocabulary of 512" mpirun -np 2 "$SLUICE" eval \
  --checkpoint wider/checkpoints/step_00000001 --data between --set 'evaluation.tasks={tasks: NEEDLE_IN_TEXT}'
