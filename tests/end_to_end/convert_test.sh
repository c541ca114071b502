#!/usr/bin/env bash
# A trained model goes to a Hugging Face folder and back: it evaluates and generates as before, starts a run, and what
# cannot be converted is refused with one line.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
"$SLUICE" train --config config.textproto --run run 2> train.log || { cat train.log; fail train; }
step=run/checkpoints/step_00000020
convert() { "$SLUICE" checkpoint "$@" > convert.txt 2> convert.log || { cat convert.log; fail "checkpoint $*"; }; }
refused() {
  local pattern=$1 code=0
  shift
  "$SLUICE" checkpoint "$@" > out.txt 2> err.txt || code=$?
  [ "$code" -eq 1 ] && [ "$(grep -c 'error:' err.txt)" -eq 1 ] && grep -q -e "$pattern" err.txt ||
    { cat err.txt; fail "checkpoint $*: exit code $code, or does not say $pattern"; }
}

convert export $step exported --format qwen3_moe
grep -qE 'exported [0-9]+ parameters, [0-9]+ bytes in 1 file' convert.txt || fail "the export says $(cat convert.txt)"
[ ! -s convert.log ] || fail "the export warns: $(cat convert.log)"
convert import exported imported --format qwen3_moe
convert export imported again --format qwen3_moe
diff -r exported again || fail "a second export differs"
convert export $step weights --format sluice

evaluate() { "$SLUICE" eval --checkpoint "$1" --data data.heldout --json 2>/dev/null; }
sample() { "$SLUICE" generate --checkpoint "$1" --prompt namespace --tokens 20 --temperature 0 2>/dev/null; }
for folder in imported weights; do
  diff <(evaluate $step) <(evaluate $folder) || fail "$folder is evaluated otherwise"
  diff <(sample $step) <(sample $folder) || fail "$folder generates otherwise"
done
"$SLUICE" train --config config.textproto --run next --set initial_checkpoint.path=imported --set training.steps=5 \
  2> next.log || { cat next.log; fail "a run from an import"; }

refused 'exported: is not empty' export $step exported --format qwen3_moe
refused 'model.moe: format qwen3_gated holds dense models; use qwen3_moe' export $step dense --format qwen3_gated
refused 'format gguf: expected qwen3_moe, qwen3_gated or sluice' export $step other --format gguf
convert import $step other --format sluice
diff -r weights other || fail "the weights from either side differ"
rm -r other
refused 'exported: not a checkpoint' export exported other --format qwen3_moe
refused 'config.json: model_type="qwen3_moe" is not supported; only "qwen3"' import exported other --format qwen3_gated
sed -i 's/"silu"/"gelu"/' exported/config.json
refused 'exported/config.json: hidden_act="gelu" is not supported' import exported other --format qwen3_moe
cp -r again cut && truncate -s -1 cut/model.safetensors
refused 'cut/model.safetensors: the tensors end at' import cut other --format qwen3_moe
for folder in dense other; do [ ! -e $folder ] || fail "$folder was left behind"; done
