#!/usr/bin/env bash
# From nothing to a trained model on a Debian machine: installs, builds, fetches real text, trains a small gated mixture
# of experts on two ranks, evaluates it on held-out documents beside xz, and prints a sample.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/mpi_local.sh

work=build/quickstart
sluice=build/cpu/bin/sluice
run=runs/quickstart
prefix=$work/data/prose
step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

step "installing packages"
bash launch/setup.sh

step "building"
cmake --preset cpu >/dev/null
cmake --build build/cpu --target sluice

step "fetching text"
bash launch/quickstart_text.sh "$work"

step "tokenizer and data"
mkdir -p "$work/data"
# Relative paths: a document is held out by the hash of its name.
find "$work/text" -type f | sort > "$work/documents.txt"
xargs -a "$work/documents.txt" "$sluice" data tokenizer --vocab 4096 --out "$work/tokenizer.json"
xargs -a "$work/documents.txt" "$sluice" data build --tokenizer "$work/tokenizer.json" --out "$prefix" --held-out 4

step "training"
rm -rf "$run"
mpirun -np 2 "$sluice" train --config configs/quickstart.textproto --run "$run"

step "held-out text"
checkpoint=$(ls -d "$run"/checkpoints/step_* | tail -n 1)
mpirun -np 2 "$sluice" eval --checkpoint "$checkpoint" --data "$prefix.heldout" | tee "$work/eval.txt"
bash launch/quickstart_xz.sh "$prefix.heldout.documents.txt" | tee "$work/xz.txt"
awk '$2 == "bits" { xz = $5 } FNR == 2 && FILENAME ~ /eval/ { model = $4 }
     END { printf "held-out bits per byte: model %.3f, xz -9e %.3f\n", model, xz }' "$work/eval.txt" "$work/xz.txt"

step "a sample"
"$sluice" generate --checkpoint "$checkpoint" --prompt "In the beginning" --tokens 120 --temperature 0.7

cat <<EOF

== done ($SECONDS s)
curves:     $run/metrics.jsonl, and $run/events.out.tfevents.* for: tensorboard --logdir runs
checkpoint: $checkpoint
EOF
