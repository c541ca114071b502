#!/usr/bin/env python3
"""One training step of the benchmark configurations in PyTorch (2.10 or newer), in full float32 on the CPU.

The same mathematics as configs/bench/<name>.textproto: pre-norm decoder, grouped-query attention with QK-norm, RoPE and
an elementwise output gate, SwiGLU experts with top-k renormalisation, AdamW with clipping. Tokens are random and the
router is whatever its initialisation makes it. Prints one JSON object.

  peer_torch.py --config small --moe sorted --attention sdpa [--compile] [--threads N] [--steps N] [--warmup N]
"""
import argparse
import json
import os
import resource
import statistics
import time
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Config:
    hidden_size: int
    num_layers: int
    vocab_size: int
    sequence_length: int
    batch_size: int
    head_dim: int
    ffn_size: int  # of an expert, or of the dense layer
    num_experts: int = 0  # 0: dense
    top_k: int = 0
    num_heads: int = 8
    num_kv_heads: int = 2


def dense_twin(moe):
    """The dense model whose feed-forward layer is as wide as the experts that a token uses."""
    return replace(moe, ffn_size=moe.ffn_size * moe.top_k, num_experts=0, top_k=0)


CONFIGS = {
    "small": Config(256, 4, 4096, 256, 8, head_dim=32, ffn_size=256, num_experts=16, top_k=2),
    "large": Config(512, 8, 8192, 512, 4, head_dim=64, ffn_size=256, num_experts=32, top_k=4),
    "fine": Config(512, 4, 8192, 512, 2, head_dim=64, ffn_size=128, num_experts=128, top_k=8),
}
CONFIGS |= {f"{name}_dense": dense_twin(CONFIGS[name]) for name in ("small", "large")}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=CONFIGS, default="small")
    parser.add_argument("--moe", choices=("loop", "sorted", "grouped"), default="sorted",
                        help="one masked gather an expert; one sort and a matrix product an expert; torch grouped_mm")
    parser.add_argument("--attention", choices=("sdpa", "explicit"), default="sdpa")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=2)
    return parser.parse_args()


ARGUMENTS = parse_arguments()
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = str(ARGUMENTS.threads)  # read when torch is loaded

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def rotate(x, cos, sin):
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


class Attention(nn.Module):
    """Gated grouped-query attention; query, gate, key and value come from one matrix product."""

    def __init__(self, config, explicit):
        super().__init__()
        self.head_dim, self.explicit = config.head_dim, explicit
        self.heads, self.kv_heads = config.num_heads, config.num_kv_heads
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.widths = (query, query, key, key)
        self.qgkv_proj = linear(config.hidden_size, sum(self.widths))
        self.o_proj = linear(query, config.hidden_size)
        self.q_norm, self.k_norm = (nn.RMSNorm(self.head_dim, eps=1e-6) for _ in range(2))

    def forward(self, x, rope, mask):
        heads = x.shape[:2] + (-1, self.head_dim)
        q, gate, k, v = self.qgkv_proj(x).split(self.widths, -1)
        q = rotate(self.q_norm(q.view(heads)).transpose(1, 2), *rope)
        k = rotate(self.k_norm(k.view(heads)).transpose(1, 2), *rope)
        v = v.view(heads).transpose(1, 2)
        if self.explicit:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
            scores = q @ k.transpose(2, 3) * self.head_dim**-0.5 + mask
            y = scores.softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(gate.shape) * gate.sigmoid())


class FeedForward(nn.Module):
    def __init__(self, hidden_size, ffn_size):
        super().__init__()
        self.gate_up_proj = linear(hidden_size, 2 * ffn_size)
        self.down_proj = linear(ffn_size, hidden_size)

    def forward(self, x):
        gate, up = self.gate_up_proj(x).chunk(2, -1)
        return self.down_proj(F.silu(gate) * up)


class Router(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.top_k = config.top_k
        self.proj = linear(config.hidden_size, config.num_experts)

    def forward(self, x):
        weight, expert = self.proj(x).softmax(-1).topk(self.top_k, -1)
        return weight / weight.sum(-1, keepdim=True), expert


class LoopMoe(nn.Module):
    """For each expert: find its tokens, gather, compute, scatter."""

    def __init__(self, config):
        super().__init__()
        self.router = Router(config)
        experts = (FeedForward(config.hidden_size, config.ffn_size) for _ in range(config.num_experts))
        self.experts = nn.ModuleList(experts)

    def forward(self, x):
        rows = x.flatten(0, 1)
        weight, chosen = self.router(rows)
        out = torch.zeros_like(rows)
        for index, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == index)
            if len(token):
                out.index_add_(0, token, expert(rows[token]) * weight[token, slot, None])
        return out.view_as(x)


class SortedMoe(LoopMoe):
    """Sorts the (token, slot) pairs by expert once; each expert then reads one contiguous block of rows."""

    def forward(self, x):
        rows = x.flatten(0, 1)
        weight, chosen = self.router(rows)
        order = chosen.flatten().argsort()
        token = order // self.router.top_k
        counts = chosen.flatten().bincount(minlength=len(self.experts)).tolist()
        blocks = rows.index_select(0, token).split(counts)
        y = torch.cat([expert(block) for expert, block in zip(self.experts, blocks) if len(block)])
        y = y * weight.flatten()[order, None]
        return torch.zeros_like(rows).index_add(0, token, y).view_as(x)


class GroupedMoe(nn.Module):
    """As SortedMoe with stacked weights and torch's grouped matrix product."""

    def __init__(self, config):
        super().__init__()
        self.router = Router(config)
        experts, hidden, ffn = config.num_experts, config.hidden_size, config.ffn_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * ffn, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, ffn))

    def forward(self, x):
        rows = x.flatten(0, 1)
        weight, chosen = self.router(rows)
        order = chosen.flatten().argsort()
        token = order // self.router.top_k
        counts = chosen.flatten().bincount(minlength=len(self.down_proj))
        ends = counts.cumsum(0).to(torch.int32)
        gate_up = F.grouped_mm(rows.index_select(0, token), self.gate_up_proj.transpose(1, 2), offs=ends)
        gate, up = gate_up.chunk(2, -1)
        y = F.grouped_mm(F.silu(gate) * up, self.down_proj.transpose(1, 2), offs=ends)
        y = y * weight.flatten()[order, None]
        return torch.zeros_like(rows).index_add(0, token, y).view_as(x)


MOE_LAYERS = {"loop": LoopMoe, "sorted": SortedMoe, "grouped": GroupedMoe}


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_norm, self.ffn_norm = (nn.RMSNorm(config.hidden_size, eps=1e-6) for _ in range(2))
        self.attention = Attention(config, ARGUMENTS.attention == "explicit")
        if config.num_experts:
            self.ffn = MOE_LAYERS[ARGUMENTS.moe](config)
        else:
            self.ffn = FeedForward(config.hidden_size, config.ffn_size)

    def forward(self, x, rope, mask):
        x = x + self.attention(self.input_norm(x), rope, mask)
        return x + self.ffn(self.ffn_norm(x))


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=1e-6)
        self.lm_head = linear(config.hidden_size, config.vocab_size)
        frequency = 1e4 ** (-torch.arange(0, config.head_dim, 2) / config.head_dim)
        angle = torch.outer(torch.arange(config.sequence_length), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        self.register_buffer("mask", torch.full((config.sequence_length,) * 2, -torch.inf).triu(1))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, (self.cos, self.sin), self.mask)
        return F.cross_entropy(self.lm_head(self.norm(x)).flatten(0, 1), targets.flatten())


def train(config):
    """Returns the loss of the last step and, for every step after the warm-up, (wall, CPU) seconds."""
    model = Transformer(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    step_model = torch.compile(model) if ARGUMENTS.compile else model
    seconds = []
    for step in range(ARGUMENTS.warmup + ARGUMENTS.steps):
        tokens = torch.randint(config.vocab_size, (config.batch_size, config.sequence_length + 1))
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step_model(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step >= ARGUMENTS.warmup:
            seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    return model, loss.item(), seconds


def main():
    torch.set_num_threads(ARGUMENTS.threads)
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(0)
    config = CONFIGS[ARGUMENTS.config]
    model, loss, seconds = train(config)
    tokens = config.batch_size * config.sequence_length
    wall, cpu = zip(*seconds)
    print(json.dumps({
        "config": ARGUMENTS.config,
        "moe": ARGUMENTS.moe if config.num_experts else None,
        "attention": ARGUMENTS.attention,
        "compile": ARGUMENTS.compile,
        "threads": ARGUMENTS.threads,
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": loss,
        "tokens_per_s_median": tokens / statistics.median(wall),
        "tokens_per_s_best": tokens / min(wall),
        "tokens_per_cpu_s_median": tokens / statistics.median(cpu),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }))


if __name__ == "__main__":
    main()
