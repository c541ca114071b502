#!/usr/bin/env bash
# Each bad input ends with exit code 1 and one clear line.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data

# refused PATTERN COMMAND...: exit code 1, one line with "error:" that matches, no stack trace.
refused() {
  local pattern=$1 code=0
  shift
  "$@" > out.txt 2> err.txt || code=$?
  [ "$code" -eq 1 ] || { cat err.txt; fail "$*: exit code $code"; }
  [ "$(grep -c 'error:' err.txt)" -eq 1 ] || { cat err.txt; fail "$*: not one error line"; }
  grep 'error:' err.txt | grep -qE -e "$pattern" || { cat err.txt; fail "$*: does not say $pattern"; }
  ! grep -qE 'terminate called|Stack trace|\*\*\* ' err.txt || { cat err.txt; fail "$*: a stack trace"; }
}
train() { echo "$SLUICE" train --config config.textproto --run run; }

refused 'unknown field "hiden_size" in ModelConfig; did you mean "hidden_size"' $(train) --set model.hiden_size=3
echo 'trainin { }' > unknown.textproto
refused 'unknown.textproto:1:.*unknown field "trainin"' "$SLUICE" train --config unknown.textproto
refused 'model.num_attention_heads=4 is not divisible by model.num_key_value_heads=3' $(train) --set model.num_key_value_heads=3
refused 'no/such.textproto' "$SLUICE" train --config no/such.textproto
refused '--config \.: is a folder' "$SLUICE" train --config .
refused '--set training.steps=5 seed: 77: sets more than one field' $(train) --set 'training.steps=5 seed: 77'
sed 's/lr: 5e-3/lr: 5e-3 lr: 1e-3/' config.textproto > twice.textproto
refused 'twice.textproto:.*: optimizer.lr is set twice' "$SLUICE" train --config twice.textproto
refused 'unknown command "trian"; did you mean "train"\? \(commands: train, sweep, eval, ' "$SLUICE" trian --config config.textproto
refused 'unknown command "publish" \(commands: train, sweep, eval, ' "$SLUICE" publish
refused 'unknown command "biuld"; did you mean "build"\?' "$SLUICE" data biuld

echo 'step,loss' > curve.csv
refused 'curve.csv:1: no column lm_loss' "$SLUICE" spikes curve.csv
refused 'stability.noise_window=5 must be between 30 and 100000 values' "$SLUICE" spikes curve.csv --set stability.noise_window=5

refused 'nowhere' $(train) --set data.train[0].prefix=nowhere
cp data.bin cut.bin; cp data.meta.json cut.meta.json; head -c 100 data.idx > cut.idx
refused 'cut.idx' $(train) --set data.train[0].prefix=cut
cp data.idx cut.idx; head -c 1000 data.bin > cut.bin
refused 'cut.bin: sequence .* ends at byte .*, the file has 1000; is it truncated' $(train) --set data.train[0].prefix=cut
cp data.bin wild.bin; cp data.idx wild.idx; cp data.meta.json wild.meta.json
for i in $(seq 0 2 4000); do printf '\377\377'; done | dd of=wild.bin conv=notrunc status=none
refused 'wild.*65535' $(train) --set data.train[0].prefix=wild --set 'data.eval=' --set training.steps=2000 --set training.sequence_length=512 --set model.num_layers=1
rm -rf run
refused 'wild.*65535' $(train) --set data.eval[0].prefix=wild
[ ! -e run/metrics.jsonl ] || fail "an evaluation set is checked too late"
rm -rf run
xargs -a documents.txt "$SLUICE" data tokenizer --vocab 400 --out other.json >/dev/null 2>&1
refused 'the tokenizer does not match the data: data.meta.json: .*, that of other.json is' $(train) --set data.tokenizer=other.json
refused 'the tokenizer does not match the data' "$SLUICE" train --config config.textproto --run run --set data.tokenizer=other.json --set model.vocab_size=600
touch file
refused 'file/run' "$SLUICE" train --config config.textproto --run file/run
: > empty.txt
refused 'empty.txt' "$SLUICE" data build --tokenizer bytes --out empty empty.txt
refused '--workers: expected 1 to 1024, got 20000' "$SLUICE" data build --tokenizer bytes --out many --workers 20000 documents.txt
refused '--out: expected a prefix, got nothing' "$SLUICE" data build --tokenizer bytes --out '' documents.txt
refused '--length: must be 1 or more, got 0' "$SLUICE" eval --checkpoint . --data data --length 0
refused '--steps: must be 1 or more, got 0' "$SLUICE" bench step --config config.textproto --steps 0
for seed in -1 18446744073709551616; do
  refused "--seed: must be between 0 and 18446744073709551615, got $seed" "$SLUICE" generate --checkpoint . --prompt a --seed=$seed
done
refused 'nope.idx: cannot open' mpirun -np 2 "$SLUICE" data info nope
refused 'too many parameters, model.num_layers=2 \* model.moe.num_experts=1024 ' $(train) --set model.hidden_size=65536 --set model.moe.num_experts=1024 --set model.moe.moe_intermediate_size=2147483648
refused 'not a checkpoint' "$SLUICE" eval --checkpoint . --data data
refused 'model.head_dim=4096 must be between 1 and 512' $(train) --set model.head_dim=4096
mkdir full; ln -s /dev/full full/config.textproto.tmp
refused 'full/config.textproto.tmp: cannot write: No space left' "$SLUICE" train --config config.textproto --run full
mkdir closed; touch closed/checkpoints
refused '--run closed: checkpoints/ cannot be created' "$SLUICE" train --config config.textproto --run closed

"$SLUICE" train --config config.textproto --run good --set training.steps=4 2> err.txt || { cat err.txt; fail "train good"; }
step=good/checkpoints/step_00000004
xargs -a documents.txt "$SLUICE" data build --tokenizer other.json --out other >/dev/null 2>&1
refused 'the tokenizer does not match the data: other.meta.json' "$SLUICE" eval --checkpoint $step --data other
for part in bin idx; do cp data.heldout.$part lie.$part; done
sed -E 's/"bytes": [0-9]+/"bytes": 0/' data.heldout.meta.json > lie.meta.json
refused 'lie.meta.json: bytes: 0, but' "$SLUICE" eval --checkpoint $step --data lie
refused 'lie.meta.json: bytes: 0, but' $(train) --set data.eval[0].prefix=lie
rm -rf run
refused 'wild.bin: .*65535 is not in the vocabulary' mpirun -np 2 "$SLUICE" eval --checkpoint $step --data data.heldout wild
for change in 'model.rope_theta: 10000 -> 20000' 'training.seed: 1 -> 7'; do
  set=$(echo "$change" | sed -E 's/: .* -> /=/')
  refused "step_00000004 is of another run; choose another folder, .*modified: $(printf %s "$change" | sed 's/[][]/\\&/g')" \
    "$SLUICE" train --config config.textproto --run good --set training.steps=8 --set "$set"
done
refused 'data.train\[0\].prefix=wild holds [0-9]+ documents of .*, but .*step_00000004 was trained with [0-9]+ documents' \
  "$SLUICE" train --config config.textproto --run good --set training.steps=8 --set data.train[0].prefix=wild
cp -r good early; rm -r early/checkpoints
refused 'early/config.textproto is of another run; .*modified: training.seed: 1 -> 7' "$SLUICE" train --config config.textproto --run early --set training.seed=7
cp -r good good2
head -c 200000 /dev/zero | sed 's/\x0/a{/g' > deep.textproto
sed 's/^step: 4$/step: 5/' -i $step/manifest.textproto
refused 'manifest_xxh3 does not match; the file is damaged' "$SLUICE" eval --checkpoint $step --data data

refused 'optimizer.weight_decay=inf must be a finite number' $(train) --set optimizer.weight_decay=inf
refused 'model.num_layers=2000000000 must be between 1 and' $(train) --set model.num_layers=2000000000
refused 'data.eval_every=-5 must not be negative' $(train) --set data.eval_every=-5
refused 'must stay below 2' $(train) --set training.sequence_length=2000000000
refused '--length .* is too large' "$SLUICE" eval --checkpoint good2/checkpoints/step_00000004 --data data --length 9223372036854775807
refused 'was not expected: --bogus' "$SLUICE" train --config config.textproto --bogus
refused 'was not expected: --bogus' mpirun -np 2 "$SLUICE" train --config config.textproto --bogus
refused 'standard output: cannot write' bash -c '"$0" data info data > /dev/full' "$SLUICE"
refused 'unknown field "a"|too deep|recursion' "$SLUICE" train --config deep.textproto

sed -i 's/the/eht/' good2/checkpoints/step_00000004/tokenizer.json
refused 'tokenizer.json: does not match tokenizer_xxh3' "$SLUICE" generate --checkpoint good2/checkpoints/step_00000004 --prompt a

# A set without a meta file is used, with a warning said once.
cp data.bin bare.bin; cp data.idx bare.idx
mpirun -np 2 $(train) --set training.steps=4 --set training.micro_batch_size=2 --set data.train[0].prefix=bare 2> err.txt || { cat err.txt; fail "data without a meta file"; }
[ "$(grep -c 'bare.meta.json is missing' err.txt)" -eq 1 ] || { cat err.txt; fail "not one warning of a missing meta file"; }
rm -rf run
refused 'tokenizer.json: the tokenizer has 512 ids, more than model.vocab_size=300' $(train) --set data.train[0].prefix=bare --set data.eval= --set model.vocab_size=300
rm -rf run

printf 'caf\351 \377\376 \303\251\n' > latin1.txt
"$SLUICE" data build --tokenizer bytes --out latin1 latin1.txt > /dev/null 2>&1 || fail "invalid UTF-8 is refused"
# Two bytes a token, and the end of the document.
od -An -v -tu2 -w2 latin1.bin | head -n -1 | awk '{ printf "%c", $1 }' | LC_ALL=C cmp - latin1.txt || fail "invalid UTF-8 is not kept"

refused 'wild.*65535' mpirun -np 2 $(train) --set data.train[0].prefix=wild --set 'data.eval=' --set training.steps=2000 --set training.sequence_length=512 --set model.num_layers=1
rm -rf run
refused 'nowhere' mpirun -np 2 $(train) --set data.train[0].prefix=nowhere
refused 'not divisible' mpirun -np 2 $(train) --set model.num_key_value_heads=3
