#!/usr/bin/env bash
# How long before a run goes wrong its indicators say so: the table of docs/stability.md. A small model without QK-norm,
# gate and clipping, whose learning rate rises until it goes wrong, with some seeds. Needs the quick start's data.
#   SLUICE=build/cpu/bin/sluice bash tests/bench/lead_time.sh [SEEDS]
# The loss has turned where the mean of its last 40 values is 0.2 nats above the least that it was.
set -euo pipefail
SLUICE=$(realpath "${SLUICE:-build/cpu/bin/sluice}")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

model='hidden_size: 64 num_layers: 3 num_attention_heads: 4 num_key_value_heads: 2 head_dim: 16 vocab_size: 4096 qk_norm: false
  moe {num_experts: 4 top_k: 2 moe_intermediate_size: 64 norm_topk_prob: true}'
echo "| seed | the loss has turned by step | told before, in steps | told of the loss or the gradient |"
echo "|---|---|---|---|"
for ((seed = 1; seed <= ${1:-3}; ++seed)); do
  "$SLUICE" train --config configs/bench/disturbed.textproto --run "$work/$seed" --set "model={$model}" \
    --set training.seed=$seed --set training.steps=800 --set training.micro_batch_size=8 --set optimizer.schedule=CONSTANT \
    --set optimizer.lr=0.05 --set optimizer.warmup_steps=800 --set optimizer.beta2=0.999 --set optimizer.clip=0 \
    --set logging.every=1 --set cpu.threads=1 --set stability.most_skips_in_a_row=800 2> "$work/log" || { cat "$work/log"; exit 1; }
  turned=$(sed -nE 's/^step ([0-9]+)\/.* loss ([0-9.]+).*/\1 \2/p' "$work/log" | awk '
    { sum += $2; last[NR % 40] = $2 }
    NR >= 40 { mean = sum / 40; sum -= last[(NR + 1) % 40]; if (NR == 40 || mean < least) least = mean; if (mean > least + 0.2) { print $1; exit } }')
  # Once an episode: the step and what.
  told=$(sed -nE 's/^W.*\] step ([0-9]+): ([a-z_]+) (of [a-z_.0-9]+( [0-9]+| of layer [0-9]+)?).*/\1 \2 \3/p' "$work/log" | awk -v turned="${turned:-100000}" '$1 < turned' | paste -sd';' | sed 's/;/; /g')
  signals=$(sed -nE 's/^W.*\] step ([0-9]+): (lm_loss|grad_norm) [0-9].*/\1 \2/p' "$work/log" | paste -sd';' | sed 's/;/; /g')
  echo "| $seed | ${turned:--} | ${told:--} | ${signals:--} |"
done
