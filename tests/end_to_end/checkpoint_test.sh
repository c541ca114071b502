#!/usr/bin/env bash
# A run's checkpoints are listed, verified, divided into other files, compared, and gone on from on another layout.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
make_data
echo 'checkpoint { every: 4 keep: 9 }' >> config.textproto
train() { "$SLUICE" train --config config.textproto "$@" 2> train.log || { cat train.log; fail "train $*"; }; }
mpirun -np 2 "$SLUICE" train --config config.textproto --set mesh.tp=2 --set training.steps=12 \
  --run run 2> train.log || { cat train.log; fail "train on two ranks"; }
step=run/checkpoints/step_00000012
says() { grep -qE -e "$2" "$1" || { cat "$1"; fail "$1 does not say $2"; }; }
# checkpoint COMMAND...: what it prints is in out.txt.
checkpoint() { "$SLUICE" checkpoint "$@" > out.txt 2> err.txt || { cat out.txt err.txt; fail "checkpoint $*"; }; }
# refused PATTERN COMMAND...: exit code 1, one line with "error:" that matches.
refused() {
  local pattern=$1 code=0
  shift
  "$SLUICE" checkpoint "$@" > out.txt 2> err.txt || code=$?
  [ "$code" -eq 1 ] || { cat out.txt err.txt; fail "checkpoint $*: exit code $code"; }
  [ "$(grep -c 'error:' err.txt)" -eq 1 ] || { cat err.txt; fail "checkpoint $*: not one error line"; }
  says err.txt "error: .*$pattern"
}
# one_object: out.txt is one JSON object and nothing else.
one_object() { [ "$(wc -l < out.txt)" -eq 1 ] && grep -qE '^\{.*\}$' out.txt && [ ! -s err.txt ] || { cat out.txt err.txt; fail "not one object: $*"; }; }

for command in "" list verify diff reshard; do
  # shellcheck disable=SC2086
  "$SLUICE" checkpoint $command --help > help.txt || fail "checkpoint $command --help"
  says help.txt 'Example: sluice checkpoint'
done

stat -c %s $step/shard-* | sort -n | awk '{ size[NR] = $1 } END { exit !(NR == 2 && size[2] / size[1] < 1.05) }' || fail "not of a size: $(stat -c %s $step/shard-*)"
checkpoint verify $step
says out.txt "^$step: good; checked 4 files, [0-9]+ bytes, [0-9]+ pieces$"
checkpoint verify $step --json
one_object verify
says out.txt '"good":true,.*"problems":\[\]'

checkpoint reshard $step resharded --shards 3
[ "$(ls resharded)" = "$(printf '%s\n' manifest.textproto shard-0000{0,1,2}-of-00003.safetensors tokenizer.json)" ] || fail "resharded: $(ls resharded)"
stat -c %s resharded/shard-* | sort -n | awk '{ size[NR] = $1 } END { exit !(NR == 3 && size[3] / size[1] < 1.05) }' || fail "not of a size: $(stat -c %s resharded/shard-*)"
checkpoint verify resharded
checkpoint diff $step resharded
says out.txt '^equal: ([0-9]+) of \1 weights and moments are equal to the last bit, 0 other differences$'
checkpoint diff $step resharded --json
one_object diff
says out.txt '"equal":true,"tensors_equal":true,.*"differences":\[\]'
checkpoint diff run/checkpoints/step_00000008 $step
says out.txt '^model.embed_tokens.weight +MASTER +differs .* at \[[0-9]+, [0-9]+\]: '
says out.txt '^modified: step: 8 -> 12$'
says out.txt '^different: '
# Back to the files that the ranks would have written, but for what holds a whole parameter.
checkpoint reshard resharded again --shards 1
checkpoint diff again $step --json
says out.txt '"equal":true'
refused 'resharded: is not empty' reshard $step resharded --shards 2
refused '--shards: must be 1 or more, got 0' reshard $step none --shards 0

# It takes the place of the checkpoint, on one rank and on two of data parallelism, and evaluates alike.
"$SLUICE" eval --checkpoint $step --data data.heldout --json > one.json 2> /dev/null
"$SLUICE" eval --checkpoint resharded --data data.heldout --json > other.json 2> /dev/null
cmp one.json other.json || fail "the evaluations differ"
cp -r run original
rm -r $step
cp -r resharded $step
train --run run --set mesh.tp=1 --set training.steps=16
says run/audit.jsonl '"step":12,"event":"resume"'
train --run original --set mesh.tp=1 --set training.steps=16
diff <(losses run) <(losses original) || fail "a run goes on otherwise from other files"
checkpoint diff run/checkpoints/step_00000016 original/checkpoints/step_00000016
says out.txt '^equal: '
mpirun -np 2 "$SLUICE" train --config config.textproto --run run --set training.steps=20 --set training.micro_batch_size=2 2> train.log ||
  { cat train.log; fail "going on with two ranks"; }

# Damage is told by verify and list.
head -c 100 $step/shard-00001-of-00003.safetensors > short
cp short $step/shard-00001-of-00003.safetensors
printf '\377' | dd of=$step/shard-00002-of-00003.safetensors bs=1 seek=100000 conv=notrunc status=none
refused "$step: damaged, 3 problem\(s\), the first: $step/shard-00001-of-00003.safetensors: has 100 bytes" verify $step
says out.txt "$step/shard-00001-of-00003.safetensors: has 100 bytes"
says out.txt "$step/shard-00002-of-00003.safetensors: tensor \".*\" does not match its xxh3; the file is damaged"
refused 'damaged' verify $step --json
says out.txt '^\{"checkpoint":.*"good":false,.*"problems":\["[^"]*has 100 bytes'
refused 'has 100 bytes' diff $step resharded
refused 'has 100 bytes' reshard $step none --shards 2
[ ! -e none ] || fail "what was refused left a folder"
rm run/checkpoints/step_00000016/manifest.textproto
mv run/checkpoints/step_00000020 run/checkpoints/damaged_step_00000020
checkpoint list run
says out.txt '^step_00000012 +damaged +12 .* dp 1 tp 2 ep 1 etp 1 ZeRO 1 '
says out.txt '^ +run/checkpoints/step_00000012/shard-00001-of-00003.safetensors: has 100 bytes'
says out.txt '^step_00000016 +unfinished +16 '
says out.txt '^damaged_step_00000020 +set aside +20 '
checkpoint list run --json
one_object list
says out.txt '"folder":"step_00000012","state":"damaged","problem":"run/checkpoints/step_00000012/shard-00001-of-00003.safetensors: has 100 bytes'
refused 'none: holds no folder checkpoints; give the folder of a run' list none
refused 'none: there is no such folder' verify none
refused 'run: not a checkpoint, there is no manifest.textproto; it is a run, whose checkpoints' verify run
refused 'step_00000008/sub: lies inside of the checkpoint .*step_00000008' reshard run/checkpoints/step_00000008 run/checkpoints/step_00000008/sub --shards 2
