"""transformers must load what sluice exports and compute the same logits: mixtures of experts and dense models, without
and with a gate on the attention output, of random and of trained weights. What transformers saves must come back bit by
bit from an import and an export, and AutoTokenizer must encode as sluice does.

    check_transformers.py SLUICE TEXT... --logits CHECKPOINT_LOGITS
                          [--gated-modeling modeling_qwen3.py --gated-configuration configuration_qwen3.py]

The two files are the released gated model's (tests/golden/README.md): with them it computes the dense gated models,
otherwise a subclass here does.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types
import unittest.mock

from common import argument_parser, compare, encode, require, sluice

os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in local folders
torch = require("torch")
transformers = require("transformers")
safetensors_torch = require("safetensors.torch")
numpy = require("numpy")

from transformers.models.qwen3 import modeling_qwen3  # noqa: E402
from transformers.models.qwen3_moe import modeling_qwen3_moe  # noqa: E402

TOKENS = 96
LOGIT_ERROR = 2e-5  # of random weights, absolute
RELATIVE_LOGIT_ERROR = 1e-5  # of trained weights, of the largest logit
ROUTER_GAP = 1e-5  # tokens whose choice of experts is closer than that may be routed otherwise
HEADS = 8


@dataclasses.dataclass(frozen=True)
class Case:
    group: int  # query heads a key-value head
    gate: str = ""  # HEADWISE or ELEMENTWISE
    moe: bool = True
    norm_topk_prob: bool = True
    tied: bool = False
    trained: bool = False
    extra: str = ""  # of the model

    @property
    def format(self):
        return "qwen3_moe" if self.moe else "qwen3_gated"

    def config_text(self, prefix, tokenizer):
        experts = f"moe {{ num_experts: 6 top_k: 2 moe_intermediate_size: 24 norm_topk_prob: {str(self.norm_topk_prob).lower()} }}"
        steps, lr, std = (60, 5e-3, 0.05) if self.trained else (1, 0, 0.15)
        return f"""
            model {{
              hidden_size: 48 num_layers: 2 num_attention_heads: {HEADS} num_key_value_heads: {HEADS // self.group}
              head_dim: 16 vocab_size: 512 tie_word_embeddings: {str(self.tied).lower()} init_std: {std}
              {experts if self.moe else "intermediate_size: 96"}
              {f"gates {{ position: G1 granularity: {self.gate} }}" if self.gate else ""} {self.extra}
            }}
            training {{ steps: {steps} sequence_length: 64 micro_batch_size: 4 global_batch_size: 4 }}
            optimizer {{ lr: {lr} min_lr: 0 }}
            data {{ tokenizer: "{tokenizer}" train {{ prefix: "{prefix}" }} }}
        """


def cases(released):
    for group in (1, 2, 8):
        for gate in ("", "HEADWISE", "ELEMENTWISE"):
            yield Case(group, gate)
            yield Case(group, gate, moe=False, tied=group == 2)
        yield Case(group, norm_topk_prob=False, tied=group == 2)
    for gate in ("", "HEADWISE", "ELEMENTWISE"):
        yield Case(2, gate, trained=True)
        yield Case(2, gate, trained=True, moe=False)
    yield Case(2, norm_topk_prob=False, trained=True)
    yield Case(2, extra="rope_theta: 1e6 yarn { factor: 4 original_length: 64 }")
    if released:  # transformers' own code cannot do without
        yield Case(2, "ELEMENTWISE", moe=False, extra="qk_norm: false")


class PackedQuery(torch.nn.Linear):
    """q_proj whose rows are, a key-value head at a time, those of its query heads and then those of their gates."""

    def split(self, groups, head_dim, gate_width):
        self.groups, self.head_dim, self.gate_width = groups, head_dim, gate_width
        return self

    def forward(self, x):
        rows = super().forward(x).unflatten(-1, (self.groups, -1))
        heads = rows.shape[-1] // (self.head_dim + self.gate_width)
        query, gate = rows.split([heads * self.head_dim, heads * self.gate_width], -1)
        self.scores = gate.flatten(-2).unflatten(-1, (-1, self.gate_width)).sigmoid()
        return query.flatten(-2)


class GatedOutput(torch.nn.Linear):
    """o_proj behind the gate."""

    def of(self, query):
        self.query = [query]  # in a list, so that it is not a submodule
        return self

    def forward(self, x):
        query = self.query[0]
        return super().forward((x.unflatten(-1, (-1, query.head_dim)) * query.scores).flatten(-2))


def gated(base):
    """The attention layer of a model with the gate that its configuration asks for."""

    class GatedAttention(base):
        def __init__(self, config, layer_idx):
            super().__init__(config, layer_idx)
            width = 1 if config.headwise_attn_output_gate else config.head_dim
            heads = config.num_attention_heads
            query = PackedQuery(config.hidden_size, heads * (config.head_dim + width), bias=False)
            self.q_proj = query.split(config.num_key_value_heads, config.head_dim, width)
            self.o_proj = GatedOutput(heads * config.head_dim, config.hidden_size, bias=False).of(query)

    return GatedAttention


@contextlib.contextmanager
def attention_of(moe, gate):
    """transformers' class of a model, which has the gate while the context lasts."""
    module, name = (modeling_qwen3_moe, "Qwen3Moe") if moe else (modeling_qwen3, "Qwen3")
    attention = getattr(module, f"{name}Attention")
    with unittest.mock.patch.object(module, f"{name}Attention", gated(attention) if gate else attention):
        yield getattr(module, f"{name}ForCausalLM")


def released_model(options):
    """The class of the released gated model out of its two files, or None."""
    if not options.gated_modeling:
        return None
    package = types.ModuleType("gated_qwen3")
    package.__path__ = []
    sys.modules["gated_qwen3"] = package
    for name, path in [("configuration_qwen3", options.gated_configuration), ("modeling_qwen3", options.gated_modeling)]:
        spec = importlib.util.spec_from_file_location(f"gated_qwen3.{name}", path)
        sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    model = sys.modules["gated_qwen3.modeling_qwen3"].Qwen3ForCausalLM
    model.config_class = sys.modules["gated_qwen3.configuration_qwen3"].Qwen3Config
    return model


def load(folder, case, released):
    arguments = {"torch_dtype": torch.float32, "attn_implementation": "eager"}
    if released and not case.moe:
        return released.from_pretrained(folder, config=released.config_class.from_pretrained(folder), **arguments).eval()
    with attention_of(case.moe, case.gate) as model_class:
        model, report = model_class.from_pretrained(folder, output_loading_info=True, **arguments)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[problem]:
            sys.exit(f"{case}: {problem}: {report[problem]}")
    return model.eval()


def their_logits(model, ids):
    """Logits [tokens, vocab], and the smallest gap over layers between the last expert chosen and the next."""
    gaps = torch.full((len(ids),), torch.inf)

    def see(module, inputs, output):
        probability = (output[0] if isinstance(output, tuple) else output).softmax(-1)
        top = probability.view(len(ids), -1).topk(model.config.num_experts_per_tok + 1).values
        torch.minimum(gaps, top[:, -2] - top[:, -1], out=gaps)

    hooks = [layer.mlp.gate.register_forward_hook(see) for layer in model.model.layers if hasattr(layer.mlp, "experts")]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    for hook in hooks:
        hook.remove()
    return logits, gaps


def our_logits(program, checkpoint, ids, folder):
    numpy.array(ids, numpy.int32).tofile(folder / "tokens.i32")
    subprocess.run([program, checkpoint, folder / "tokens.i32", folder / "logits.f32"], check=True)
    return torch.from_numpy(numpy.fromfile(folder / "logits.f32", numpy.float32)).view(len(ids), -1)


def compare_logits(what, ours, theirs, gaps, trained=False):
    clear = gaps >= ROUTER_GAP
    worst = (ours - theirs)[clear].abs().max().item()
    largest = theirs[clear].abs().max().item()
    allowed = RELATIVE_LOGIT_ERROR * largest if trained else LOGIT_ERROR
    verdict = "equal" if worst <= allowed else "DIFFERENT"
    print(f"{verdict}: {what}: logits up to {largest:.3g} differ by {worst:.2g} of {allowed:.2g}, "
          f"{(~clear).sum().item()} tokens left out")
    return worst <= allowed


def compare_loss(what, options, checkpoint, model, prefix, ids, length=64):
    """The loss that `sluice eval` finds over a data set of one document against that of the same windows."""
    scored = json.loads(sluice(options.sluice, "eval", "--checkpoint", checkpoint, "--data", prefix, "--json"))["sets"][0]
    nats = 0.0
    for begin in range(0, len(ids) - 1, length):
        window, targets = ids[begin:begin + length], torch.tensor(ids[begin + 1:begin + 1 + length])
        logits = their_logits(model, window)[0][:len(targets)]
        nats += torch.nn.functional.cross_entropy(logits.double(), targets, reduction="sum").item()
    theirs = nats / (len(ids) - 1)
    equal = scored["targets"] == len(ids) - 1 and abs(scored["loss"] - theirs) <= 1e-5 * theirs
    print(f"{'equal' if equal else 'DIFFERENT'}: {what}: loss over {scored['targets']} targets {scored['loss']:.7f}, "
          f"transformers {theirs:.7f}")
    return equal


def check_export(case, options, released, data, folder):
    config = folder / "config.textproto"
    config.write_text(case.config_text(data.prefix, data.tokenizer))
    sluice(options.sluice, "train", "--config", config, "--run", folder / "run")
    checkpoint = max((folder / "run" / "checkpoints").iterdir())
    sluice(options.sluice, "checkpoint", "export", checkpoint, folder / "exported", "--format", case.format)
    model = load(folder / "exported", case, released)
    ids = data.ids[:TOKENS]
    theirs, gaps = their_logits(model, ids)
    equal = compare_logits(case, our_logits(options.logits, checkpoint, ids, folder), theirs, gaps, case.trained)
    if case.trained:
        equal &= compare_loss(case, options, checkpoint, model, data.prefix, data.ids)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "exported")
        theirs = tokenizer.encode(data.text, add_special_tokens=False)
        equal &= compare(f"AutoTokenizer on {len(data.text)} characters", data.ids[:-1], theirs)
        equal &= tokenizer.decode(theirs) == data.text and tokenizer.eos_token_id == data.ids[-1]
    return equal


def tensors_of(folder):
    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= safetensors_torch.load_file(file)
    return tensors


def check_import(name, make, options, ids, folder, gate=False, **saving):
    """A model that transformers saves is imported, computes the same, and is exported with the same bits."""
    moe = "Moe" in name
    with attention_of(moe, gate) as model_class:
        make(model_class).save_pretrained(folder / "saved", **saving)
        model = model_class.from_pretrained(folder / "saved", torch_dtype=torch.float32, attn_implementation="eager").eval()
    format_name = "qwen3_moe" if moe else "qwen3_gated"
    sluice(options.sluice, "checkpoint", "import", folder / "saved", folder / "step", "--format", format_name)
    sluice(options.sluice, "checkpoint", "export", folder / "step", folder / "exported", "--format", format_name)
    saved, exported = tensors_of(folder / "saved"), tensors_of(folder / "exported")
    differences = [key for key in saved.keys() | exported.keys() if key not in saved or key not in exported or
                   not torch.equal(saved[key].float().view(torch.int32), exported[key].view(torch.int32))]
    files = len(list((folder / "saved").glob("*.safetensors")))
    print(f"{'DIFFERENT' if differences else 'equal'}: {name}: {len(saved)} tensors in {files} file(s) after import and "
          f"export {differences}")
    theirs, gaps = their_logits(model, ids)
    return compare_logits(name, our_logits(options.logits, folder / "step", ids, folder), theirs, gaps) and not differences


def check_imports(options, ids):
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": HEADS, "num_key_value_heads": 2, "head_dim": 16,
             "vocab_size": 512, "intermediate_size": 40, "initializer_range": 0.15, "attn_implementation": "eager"}
    experts = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True}
    headwise = {"headwise_attn_output_gate": True, "elementwise_attn_output_gate": False}
    elementwise = {"headwise_attn_output_gate": False, "elementwise_attn_output_gate": True}
    moe, dense = transformers.Qwen3MoeConfig, transformers.Qwen3Config
    torch.manual_seed(1)
    equal = True
    for name, make, more in [
        ("Qwen3Moe", lambda model: model(moe(**sizes, **experts)), {}),
        ("Qwen3Moe in files", lambda model: model(moe(**sizes, **experts)), {"max_shard_size": "200KB"}),
        ("Qwen3Moe with gates", lambda model: model(moe(**sizes, **experts, **elementwise)), {"gate": True}),
        ("Qwen3 with gates", lambda model: model(dense(**sizes, **headwise)), {"gate": True}),
        ("Qwen3 tied", lambda model: model(dense(**sizes, tie_word_embeddings=True)), {}),
        ("Qwen3 in bfloat16", lambda model: model(dense(**sizes)).bfloat16(), {}),
    ]:
        with tempfile.TemporaryDirectory() as folder:
            equal &= check_import(name, make, options, ids, pathlib.Path(folder), **more)
    return equal


def make_data(options, folder):
    """A tokenizer and a data set of one document, the first text."""
    data = types.SimpleNamespace(prefix=folder / "data", tokenizer=folder / "tokenizer.json")
    sluice(options.sluice, "data", "tokenizer", "--vocab", 512, "--out", data.tokenizer, *options.text)
    sluice(options.sluice, "data", "build", "--tokenizer", data.tokenizer, "--out", data.prefix, options.text[0])
    data.text = pathlib.Path(options.text[0]).read_bytes().decode("utf-8")
    eod = transformers.PreTrainedTokenizerFast(tokenizer_file=str(data.tokenizer)).convert_tokens_to_ids("<|endoftext|>")
    data.ids = encode(options.sluice, data.tokenizer, options.text[0], folder) + [eod]
    return data


def main():
    parser = argument_parser()
    parser.add_argument("--logits", required=True, metavar="CHECKPOINT_LOGITS")
    parser.add_argument("--gated-modeling", metavar="PATH")
    parser.add_argument("--gated-configuration", metavar="PATH")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    released = released_model(options)
    equal = True
    with tempfile.TemporaryDirectory() as name:
        data = make_data(options, pathlib.Path(name))
        for case in cases(released):
            with tempfile.TemporaryDirectory() as folder:
                equal &= check_export(case, options, released, data, pathlib.Path(folder))
        equal &= check_imports(options, data.ids[:TOKENS])
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
