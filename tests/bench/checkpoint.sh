#!/usr/bin/env bash
# What checkpoints cost.
#
#   tests/bench/checkpoint.sh [--rounds N] [FOLDER]     default: 7 rounds, in a folder below the current one
#
# First trains configs/bench/large.textproto for 61 steps with a checkpoint every 20: the time that training waited for
# them and the CPU time of their threads, beside the steps' time. Then writes a shard of that size and runs dd with fsync in
# turn, and prints the medians. Exit code 1 when the first is more than 3 % or the second is slower than 0.8 of dd.
#   SLUICE, CHECKPOINT_BENCH   the programs         default: build/cpu/bin/{sluice,checkpoint_bench}
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
source "$source_dir/launch/mpi_local.sh"
sluice=$(realpath "${SLUICE:-$source_dir/build/cpu/bin/sluice}")
bench=$(realpath "${CHECKPOINT_BENCH:-$source_dir/build/cpu/bin/checkpoint_bench}")
rounds=7
if [[ ${1:-} == --rounds ]]; then
  rounds=$2
  shift 2
fi
work=$(realpath "$(mktemp -d -p "${1:-.}")")
trap 'rm -rf "$work"' EXIT
cd "$work"

find "$source_dir/kernels" "$source_dir/models" "$source_dir/runtime" -name '*.cc' | sort > documents
xargs -a documents "$sluice" data tokenizer --vocab 4096 --out tokenizer.json > log 2>&1 || { cat log; exit 1; }
xargs -a documents "$sluice" data build --tokenizer tokenizer.json --out data > log 2>&1 || { cat log; exit 1; }
"$sluice" train --config "$source_dir/configs/bench/large.textproto" --run run --set training.steps=61 \
  --set checkpoint.every=20 --set checkpoint.keep=1 --set data.tokenizer=tokenizer.json --set 'data.train[0].prefix=data' \
  --set logging.every=1 > log 2>&1 || { cat log; exit 1; }
grep -oE 'step [0-9]+: checkpoint of .*' log
# The one at the end is not written beside training.
cost=$(sed -nE 's/.* step (20|40|60): .*waited ([0-9.]+) s .*took ([0-9.]+) s.*/\2 \3/p' log | awk '{ s += $1 + $2 } END { print s }')
steps=$(sed -nE 's/.*"step_ms":([0-9.]+).*/\1/p' run/metrics.jsonl | head -n 60 | awk '{ s += $1 / 1e3 } END { print s }')
bytes=$(stat -c %s run/checkpoints/step_00000061/shard-00000-of-00001.safetensors)
rm -r run
awk -v c="$cost" -v s="$steps" 'BEGIN { printf "three checkpoints cost %.2f s of %.1f s for 60 steps: %.2f %%\n", c, s, 100 * c / s }'

ours=() dd=()
for ((i = 0; i < rounds; ++i)); do
  ours+=("$("$bench" . $((bytes / 1000000)) | awk '{ print $1 }')")
  rm shard-*
  dd+=("$({ dd if=/dev/zero of=zeros bs=1M count=$((bytes >> 20)) conv=fsync; } 2>&1 |
    awk '/copied/ { sub(/.*copied, /, ""); print '"$((bytes >> 20 << 20))"' / 1e6 / $1 }')")
  rm zeros
done
median() { printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
echo "a shard: ${ours[*]} MB/s; dd with fsync: ${dd[*]} MB/s"
awk -v a="$(median "${ours[@]}")" -v b="$(median "${dd[@]}")" -v c="$cost" -v s="$steps" \
  'BEGIN { printf "medians: %.0f and %.0f MB/s, %.2f of dd\n", a, b, a / b; exit !(a >= 0.8 * b && c <= 0.03 * s) }'
