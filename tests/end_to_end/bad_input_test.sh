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
  grep 'error:' err.txt | grep -qE "$pattern" || { cat err.txt; fail "$*: does not say $pattern"; }
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
touch file
refused 'file/run' "$SLUICE" train --config config.textproto --run file/run
: > empty.txt
refused 'empty.txt' "$SLUICE" data build --tokenizer bytes --out empty empty.txt
refused 'not a checkpoint' "$SLUICE" eval --checkpoint . --data data

refused 'nowhere' mpirun -np 2 $(train) --set data.train[0].prefix=nowhere
refused 'not divisible' mpirun -np 2 $(train) --set model.num_key_value_heads=3
