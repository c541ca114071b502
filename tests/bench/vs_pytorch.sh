#!/usr/bin/env bash
# Training speed of sluice and of PyTorch on the same model, batch and number of threads (one), in float32.
#
#   tests/bench/vs_pytorch.sh [--rounds N] [small|large|fine|small_dense|large_dense ...]     default: small large
#
# Runs sluice and every setting of peer_torch.py in turn, then, for the remaining rounds (default 3), sluice and the
# fastest settings in turn, so that both sides see the same machine. Prints the medians over runs of tokens/s. Exit code 1
# when sluice is less than 1.2 times as fast as the fastest setting of PyTorch as it comes; settings with its MKL unlocked
# are shown beside.
#   PYTHON   a python with torch 2.10 or newer       default: python3
#   SLUICE   the program                             default: build/cpu/bin/sluice
set -euo pipefail
cd "$(dirname "$0")/../.."

python=${PYTHON:-python3}
sluice=${SLUICE:-build/cpu/bin/sluice}
rounds=3
if [[ ${1:-} == --rounds ]]; then
  rounds=$2
  shift 2
fi
names=("${@:-small}")
[[ $# -gt 0 ]] || names+=(large)

fail() {
  echo "vs_pytorch.sh: $*" >&2
  exit 1
}
[[ -x $sluice ]] || fail "no program $sluice: build it with" \
  "'cmake --preset cpu && cmake --build --preset cpu', or set SLUICE"
"$python" -c 'from torch.nn.functional import grouped_mm' 2>/dev/null || fail "$python has no PyTorch 2.10 or newer;" \
  "get one with 'python3 -m venv peer && peer/bin/pip install torch numpy' and run again with PYTHON=peer/bin/python"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# glibc gives large blocks back to the kernel after every step; keeping them, in huge pages, is up to a tenth faster.
keep_memory=(MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=67108864
  GLIBC_TUNABLES=glibc.malloc.hugetlb=1)

# The MKL inside PyTorch's packages takes AVX-512 on Intel only. This well-known shim lets it use what the CPU has.
unlock_mkl=()
if grep -q avx512f /proc/cpuinfo && ! grep -q GenuineIntel /proc/cpuinfo; then
  echo 'int mkl_serv_intel_cpu_true(void) { return 1; }' > "$work/mkl.c"
  cc -shared -fPIC -o "$work/mkl.so" "$work/mkl.c" && unlock_mkl=("LD_PRELOAD=$work/mkl.so")
fi

# settings NAME: one "label|arguments" a line. Compiled, the other forms of the experts are no faster than grouped.
settings() {
  if [[ $1 == *_dense ]]; then
    printf '%s\n' 'sdpa|' 'explicit attention|--attention explicit' 'sdpa, compiled|--compile --warmup 4'
  else
    printf '%s\n' 'expert loop, sdpa|--moe loop' 'sorted, sdpa|--moe sorted' 'grouped, sdpa|--moe grouped' \
      'grouped, explicit attention|--moe grouped --attention explicit' \
      'grouped, compiled|--moe grouped --compile --warmup 4'
  fi
}

# measure LABEL COMMAND...: appends "label <tab> tokens/s" to the results.
measure() {
  local label=$1 speed
  shift
  "$@" > "$work/out" 2> "$work/err" || fail "'$*' failed: $(tail -n 1 "$work/err")"
  speed=$("$python" -c 'import json, sys; print(json.load(sys.stdin)["tokens_per_s_median"])' < "$work/out")
  printf '%s\t%s\n' "$label" "$speed" >> "$work/results"
  printf '  %-55s %8.0f tokens/s\n' "$label" "$speed" >&2
}

measure_sluice() {
  measure sluice "$sluice" bench step --config "configs/bench/$1.textproto" --set cpu.threads=1 --json
}

# measure_peer NAME LABEL ARGUMENTS: a label that ends with "unlocked MKL" loads the shim.
measure_peer() {
  local environment=("${keep_memory[@]}")
  [[ $2 != *"unlocked MKL" ]] || environment+=("${unlock_mkl[@]}")
  read -ra arguments <<< "$3"
  measure "PyTorch: $2" env "${environment[@]}" "$python" tests/bench/peer_torch.py --config "$1" "${arguments[@]}"
}

# table: medians a label, fastest first; ratios of sluice to each. Fails when the smallest is too small.
table() {
  "$python" - "$work/results" <<'PYTHON'
import collections, statistics, sys
speeds = collections.defaultdict(list)
for line in open(sys.argv[1]):
    label, speed = line.rstrip("\n").split("\t")
    speeds[label].append(float(speed))
median = {label: statistics.median(values) for label, values in speeds.items()}
ours = median.pop("sluice")
print(f"  {'':50} {'tokens/s':>9} {'runs':>5} {'sluice is':>10}")
print(f"  {'sluice':50} {ours:9.0f} {len(speeds['sluice']):5}")
for label in sorted(median, key=median.get, reverse=True):
    print(f"  {label:50} {median[label]:9.0f} {len(speeds[label]):5} {ours / median[label]:9.2f}x")
sys.exit(ours < 1.2 * max(speed for label, speed in median.items() if not label.endswith("unlocked MKL")))
PYTHON
}

# fastest_settings: labels of the two fastest settings so far and of the fastest with PyTorch as it comes.
fastest_settings() {
  grep '^PyTorch' "$work/results" | sort -t $'\t' -k 2 -g -r | cut -f 1 > "$work/ranking"
  { head -n 2 "$work/ranking"; grep -v -m 1 'unlocked MKL$' "$work/ranking"; } | sort -u
}

compare() {
  local name=$1 line label arguments lines fastest round
  : > "$work/results"
  settings "$name" > "$work/settings"
  if ((${#unlock_mkl[@]})); then
    sed 's/|/, unlocked MKL|/' "$work/settings" > "$work/unlocked"
    cat "$work/unlocked" >> "$work/settings"
  fi
  mapfile -t lines < "$work/settings"
  for line in "${lines[@]}"; do
    measure_sluice "$name"
    measure_peer "$name" "${line%%|*}" "${line#*|}"
  done
  mapfile -t fastest < <(fastest_settings)
  for ((round = 1; round < rounds; round++)); do
    for label in "${fastest[@]#PyTorch: }"; do
      arguments=$(awk -F '|' -v label="$label" '$1 == label { print $2 }' "$work/settings")
      measure_sluice "$name"
      measure_peer "$name" "$label" "$arguments"
    done
  done
  echo "$name, one thread, $("$python" -c 'import torch; print("PyTorch", torch.__version__)'):"
  table || slow+=("$name")
}

slow=()
for name in "${names[@]}"; do
  [[ -f configs/bench/$name.textproto ]] || fail "no configs/bench/$name.textproto"
  compare "$name"
done
((${#slow[@]} == 0)) || fail "less than 1.2 times as fast as PyTorch: ${slow[*]}"
