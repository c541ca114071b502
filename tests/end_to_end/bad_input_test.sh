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

refused 'nowhere' $(train) --set data.train[0].prefix=nowhere
cp data.bin cut.bin; cp data.meta.json cut.meta.json; head -c 100 data.idx > cut.idx
refused 'cut.idx' $(train) --set data.train[0].prefix=cut
cp data.idx cut.idx; head -c 1000 data.bin > cut.bin
refused 'cut' $(train) --set data.train[0].prefix=cut
cp data.bin wild.bin; cp data.idx wild.idx; cp data.meta.json wild.meta.json
for i in $(seq 0 2 4000); do printf '\377\377'; done | dd of=wild.bin conv=notrunc status=none
refused 'wild.*65535' $(train) --set data.train[0].prefix=wild --set 'data.eval=' --set training.steps=2000 --set training.sequence_length=512 --set model.num_layers=1
rm -rf run
xargs -a documents.txt "$SLUICE" data tokenizer --vocab 400 --out other.json >/dev/null 2>&1
refused 'tokenizer' $(train) --set data.tokenizer=other.json
refused 'the tokenizer does not match the data' "$SLUICE" train --config config.textproto --run run --set data.tokenizer=other.json --set model.vocab_size=600
touch file
refused 'file/run' "$SLUICE" train --config config.textproto --run file/run
: > empty.txt
refused 'empty.txt' "$SLUICE" data build --tokenizer bytes --out empty empty.txt
refused 'not a checkpoint' "$SLUICE" eval --checkpoint . --data data
refused 'model.head_dim=4096 must be between 1 and 512' $(train) --set model.head_dim=4096
mkdir full; ln -s /dev/full full/config.textproto
refused 'config.textproto cannot be written' "$SLUICE" train --config config.textproto --run full

"$SLUICE" train --config config.textproto --run good --set training.steps=4 2> err.txt || { cat err.txt; fail "train good"; }
step=good/checkpoints/step_00000004
xargs -a documents.txt "$SLUICE" data build --tokenizer other.json --out other >/dev/null 2>&1
refused 'the tokenizer does not match the data: other.meta.json' "$SLUICE" eval --checkpoint $step --data other
refused 'already holds a run' "$SLUICE" train --config config.textproto --run good
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

printf 'caf\351 \377\376 \303\251\n' > latin1.txt
"$SLUICE" data build --tokenizer bytes --out latin1 latin1.txt > /dev/null 2>&1 || fail "invalid UTF-8 is refused"
# Two bytes a token, and the end of the document.
od -An -v -tu2 -w2 latin1.bin | head -n -1 | awk '{ printf "%c", $1 }' | LC_ALL=C cmp - latin1.txt || fail "invalid UTF-8 is not kept"

refused 'wild.*65535' mpirun -np 2 $(train) --set data.train[0].prefix=wild --set 'data.eval=' --set training.steps=2000 --set training.sequence_length=512 --set model.num_layers=1
rm -rf run
refused 'nowhere' mpirun -np 2 $(train) --set data.train[0].prefix=nowhere
refused 'not divisible' mpirun -np 2 $(train) --set model.num_key_value_heads=3
