#!/usr/bin/env python3
"""Makes the golden vectors of this folder from the PyTorch models of others, in float64 (format: README.md).

  make_golden.py --gated-modeling modeling_qwen3.py --gated-configuration configuration_qwen3.py [--out DIR]

The two files are those of github.com/qiuzh20/gated_attention; they are read, never copied.
"""
import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import float64
from layouts import parameter_shapes, to_reference

WIDENED = (
    "transformers.modeling_rope_utils",
    "transformers.models.qwen3_moe.modeling_qwen3_moe",
    "transformers.models.qwen3_next.modeling_qwen3_next",
)
BATCH, SEQUENCE = 2, 13
WEIGHT_STD = 0.2
LOGIT_GAP = 1e-2  # least distance of the last chosen from the first unchosen expert: float32 must choose alike


@dataclass(frozen=True)
class Moe:
    num_experts: int
    top_k: int
    moe_intermediate_size: int
    norm_topk_prob: bool
    balance_coef: float = 0.1
    z_coef: float = 0.01


@dataclass(frozen=True)
class Config:
    source: str  # a key of SOURCES
    num_key_value_heads: int
    gate: str = "none"
    moe: Moe | None = None
    num_layers: int = 2
    tie_word_embeddings: bool = False
    rope_theta: float = 10000.0
    hidden_size: int = 20
    num_attention_heads: int = 8
    head_dim: int = 6
    intermediate_size: int = 14
    vocab_size: int = 53
    rms_norm_eps: float = 1e-6


@dataclass(frozen=True)
class Case:
    config: Config
    seed: int
    document_offsets: tuple = tuple(range(0, BATCH * SEQUENCE + 1, SEQUENCE))
    rows: int = BATCH


def cases():
    """File name -> case."""
    made = {}
    for index, gate in enumerate(("none", "headwise", "elementwise")):
        for group in (1, 2, 8):  # query heads a key/value head
            config = Config("gated_qwen3", 8 // group, gate, tie_word_embeddings=group != 2)
            made[f"gated_{gate}_g{group}"] = Case(config, seed=10 * index + group)
    normalised, raw = Moe(7, 3, 5, norm_topk_prob=True), Moe(6, 2, 9, norm_topk_prob=False)
    made["moe_norm_topk"] = Case(Config("qwen3_moe", 4, moe=normalised, rope_theta=1e6), seed=121)
    made["moe_raw_topk"] = Case(Config("qwen3_moe", 1, moe=raw, tie_word_embeddings=True), seed=275)
    made["moe_one_layer"] = Case(Config("qwen3_moe", 8, moe=raw, num_layers=1), seed=259)
    sparse = Moe(16, 2, 3, norm_topk_prob=True)  # more experts than the few tokens can reach: some stay empty
    made["moe_packed"] = Case(Config("qwen3_moe", 2, moe=sparse), 143, (0, 5, SEQUENCE), rows=1)
    made["gated_packed"] = Case(Config("gated_qwen3", 4, "elementwise"), 105, (0, 8, SEQUENCE), rows=1)
    made["gated_moe"] = Case(Config("qwen3_next", 4, "elementwise", normalised), seed=115)
    return made


def common_arguments(config):
    names = ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size", "vocab_size",
             "tie_word_embeddings", "rope_theta", "rms_norm_eps")
    arguments = {name: getattr(config, name) for name in names}
    return arguments | {"num_hidden_layers": config.num_layers, "attn_implementation": "eager", "use_cache": False}


def moe_arguments(moe):
    return {"num_experts": moe.num_experts, "num_experts_per_tok": moe.top_k, "norm_topk_prob": moe.norm_topk_prob,
            "moe_intermediate_size": moe.moe_intermediate_size, "decoder_sparse_step": 1, "mlp_only_layers": []}


def gated_qwen3(config):
    """The released gated model: q_proj rows grouped by key/value head."""
    from gated_qwen3.configuration_qwen3 import Qwen3Config
    from gated_qwen3.modeling_qwen3 import Qwen3ForCausalLM

    gates = {f"{name}_attn_output_gate": config.gate == name for name in ("headwise", "elementwise")}
    model = Qwen3ForCausalLM(Qwen3Config(**common_arguments(config), **gates, qkv_bias=False))
    return model, lambda weights: to_reference(weights, config, config.num_key_value_heads)


def qwen3_moe(config):
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeConfig, Qwen3MoeForCausalLM

    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**common_arguments(config), **moe_arguments(config.moe)))
    return model, lambda weights: to_reference(weights, config, gate_groups=1)


def qwen3_next(config):
    """Qwen3-Next with full attention in every layer: gates interleaved by head, norm weights stored less 1. Its shared
    expert is silenced, so that it computes our gated mixture of experts."""
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextConfig, Qwen3NextForCausalLM

    model = Qwen3NextForCausalLM(Qwen3NextConfig(
        **common_arguments(config), **moe_arguments(config.moe), partial_rotary_factor=1.0,
        layer_types=["full_attention"] * config.num_layers, shared_expert_intermediate_size=4))
    silent = {name: torch.zeros_like(p) for name, p in model.named_parameters() if "shared_expert" in name}
    return model, lambda weights: silent | to_reference(weights, config, config.num_attention_heads, centred_norms=True)


SOURCES = {"gated_qwen3": gated_qwen3, "qwen3_moe": qwen3_moe, "qwen3_next": qwen3_next}


class Reference:
    """Another's model computed with our parameters: the map from internal names is part of the autograd graph, so
    gradients come out under internal names too."""

    def __init__(self, config):
        self.model, self.to_reference = SOURCES[config.source](config)
        self.model.eval()
        self.router_logits = []  # of the latest forward, by layer
        for layer in self.model.model.layers if config.moe else ():
            layer.mlp.gate.register_forward_hook(lambda module, inputs, output: self.router_logits.append(output))

    def forward(self, weights, tokens):
        """tokens [1, sequence] -> logits [sequence, vocab] and, by layer, router logits [sequence, experts]"""
        self.router_logits = []
        reference = self.to_reference(weights)
        missing = {name for name, _ in self.model.named_parameters()} ^ reference.keys()
        assert not missing, f"names on one side only: {missing}"
        logits = torch.func.functional_call(self.model, reference, (tokens,)).logits
        return logits.flatten(0, 1), self.router_logits


def balance_loss(router_logits, top_k):
    """experts * sum of share * mean probability, where the shares of the choices sum to 1 and carry no gradient."""
    tokens, experts = router_logits.shape
    probability = router_logits.softmax(-1)
    chosen = probability.topk(top_k, -1).indices.flatten()
    share = chosen.bincount(minlength=experts).to(torch.float64) / (tokens * top_k)
    return experts * (share * probability.mean(0)).sum()


def z_loss(router_logits):
    return router_logits.logsumexp(-1).square().mean()


def losses(config, logits, router_logits, targets):
    """Scalars of the whole batch by name; total_loss adds the sums over layers, the others are means over layers."""
    result = {"loss": F.cross_entropy(logits, targets.flatten(), ignore_index=-1)}
    result["total_loss"] = result["loss"]
    if config.moe:
        balance = torch.stack([balance_loss(layer, config.moe.top_k) for layer in router_logits])
        z = torch.stack([z_loss(layer) for layer in router_logits])
        result |= {"balance_loss": balance.mean(), "z_loss": z.mean()}
        result["total_loss"] = result["loss"] + config.moe.balance_coef * balance.sum() + config.moe.z_coef * z.sum()
    return result


def compute(case, reference, weights, tokens, targets):
    """Each document goes through the model alone: positions from 0, no attention across. Returns logits, router logits
    by layer and losses."""
    flat = tokens.flatten()
    bounds = zip(case.document_offsets, case.document_offsets[1:])
    parts = [reference.forward(weights, flat[None, begin:end]) for begin, end in bounds]
    logits = torch.cat([part[0] for part in parts])
    router_logits = [torch.cat(layer) for layer in zip(*(part[1] for part in parts))]
    return logits, router_logits, losses(case.config, logits, router_logits, targets)


def random_weights(config, generator):
    """Values that float32 holds exactly, so that a float32 computation starts from the same weights."""
    weights = {}
    for name, shape in parameter_shapes(config).items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float32)
        value = 1 + 0.1 * noise if name.endswith("norm.weight") else WEIGHT_STD * noise
        weights[name] = value.to(torch.float64).requires_grad_()
    return weights


def next_tokens(tokens, document_offsets):
    """Targets [rows, sequence]; the last token of a document has none, -1."""
    targets = tokens.flatten().roll(-1)
    targets[[end - 1 for end in document_offsets[1:]]] = -1
    return targets.view_as(tokens)


def check_slope(case, reference, weights, tokens, targets, generator):
    """Central difference along a random direction against the gradient: rounding to float32 anywhere would show."""
    step = 1e-6
    direction = {name: torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    ends = []
    for signed in (step, -step):
        moved = {name: w.detach() + signed * direction[name] for name, w in weights.items()}
        ends.append(compute(case, reference, moved, tokens, targets)[2]["total_loss"].item())
    measured = (ends[0] - ends[1]) / (2 * step)
    expected = sum((w.grad * direction[name]).sum().item() for name, w in weights.items())
    error = abs(measured - expected) / abs(expected)
    assert error < 1e-7, f"slope {measured} measured, {expected} from the gradient"
    return error


def check_routing(config, router_logits):
    """Returns the smallest gap between the chosen and the other experts' logits."""
    gap = torch.inf
    for layer in router_logits:
        ordered = layer.sort(-1, descending=True).values
        gap = min(gap, (ordered[:, config.moe.top_k - 1] - ordered[:, config.moe.top_k]).min().item())
    assert gap > LOGIT_GAP, f"experts are tied within {gap}: choose another seed"
    return gap


def check_balance_loss(config, router_logits, ours):
    """Hugging Face's function pools the layers and does not divide the shares by top_k: compare one layer only."""
    from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

    theirs = load_balancing_loss_func(tuple(router_logits), config.moe.num_experts, config.moe.top_k).item()
    assert abs(ours * config.moe.top_k - theirs) < 1e-12 * theirs, f"balance loss {ours}, Hugging Face {theirs}"


def make(name, case, out):
    generator = torch.Generator().manual_seed(case.seed)
    config = case.config
    reference = Reference(config)
    weights = random_weights(config, generator)
    tokens = torch.randint(config.vocab_size, (case.rows, SEQUENCE), generator=generator)
    targets = next_tokens(tokens, case.document_offsets)
    with float64.OnlyFloat64():
        logits, router_logits, scalars = compute(case, reference, weights, tokens, targets)
        scalars["total_loss"].backward()
    report = f"slope error {check_slope(case, reference, weights, tokens, targets, generator):.1e}"
    if config.moe:
        report += f", routing gap {check_routing(config, router_logits):.1e}"
        if config.num_layers == 1:
            check_balance_loss(config, router_logits, scalars["balance_loss"].item())
            report += ", balance loss as Hugging Face's"

    integers = {"tokens": tokens, "targets": targets, "document_offsets": torch.tensor(case.document_offsets)}
    tensors = {key: value.to(torch.int32) for key, value in integers.items()}
    tensors["logits"] = logits.view(case.rows, SEQUENCE, -1)
    tensors |= {key: value.view(1) for key, value in scalars.items()}
    tensors |= weights | {f"grad.{key}": weight.grad for key, weight in weights.items()}
    tensors = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
    path = out / f"{name}.safetensors"
    # One metadata key: safetensors writes several in random order.
    save_file(tensors, path, metadata={"config": json.dumps(asdict(config), sort_keys=True)})
    print(f"{path.name}: {path.stat().st_size} bytes, loss {scalars['loss'].item():.6f}, {report}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gated-modeling", type=Path, required=True, metavar="PATH")
    parser.add_argument("--gated-configuration", type=Path, required=True, metavar="PATH")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("float32 casts turned into float64:")
    float64.install(WIDENED, "gated_qwen3", {
        "modeling_qwen3": arguments.gated_modeling, "configuration_qwen3": arguments.gated_configuration})
    for name, case in cases().items():
        make(name, case, arguments.out)


if __name__ == "__main__":
    main()
