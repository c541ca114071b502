# What the end-to-end tests share; to be sourced with SLUICE (the program) and SOURCE (the source tree) set.
set -euo pipefail
source "$SOURCE/launch/mpi_local.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() { echo "error: $*"; exit 1; }

# A small data set of this project's own sources, a document a file.
make_data() {
  find "$SOURCE/kernels" "$SOURCE/models" "$SOURCE/runtime" -name '*.cc' | sort > documents.txt
  xargs -a documents.txt "$SLUICE" data tokenizer --vocab 512 --out tokenizer.json >/dev/null 2>&1
  xargs -a documents.txt "$SLUICE" data build --tokenizer tokenizer.json --out data --held-out 10 >/dev/null 2>&1
}

cat > config.textproto <<'EOF'
model {
  hidden_size: 64 num_layers: 2 num_attention_heads: 4 num_key_value_heads: 2 head_dim: 16 vocab_size: 512
  moe { num_experts: 4 top_k: 2 moe_intermediate_size: 32 norm_topk_prob: true }
  gates { position: G1 granularity: ELEMENTWISE }
}
training { steps: 20 sequence_length: 64 micro_batch_size: 4 global_batch_size: 8 }
optimizer { lr: 5e-3 warmup_steps: 4 }
data {
  tokenizer: "tokenizer.json"
  train { prefix: "data" }
  eval { name: "own" prefix: "data.heldout" }
}
logging { every: 1 }
EOF

# losses RUN: step, losses and gradient norm of every logged step, with all their digits.
losses() { sed -E 's/,"lr":.*//' "$1/metrics.jsonl"; }
