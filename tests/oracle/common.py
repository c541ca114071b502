"""What the checks share. They compare the sluice program with independent implementations from PyPI and exit with 77,
which ctest counts as skipped, when one of those is not installed."""

import argparse
import importlib
import subprocess
import sys

def require(name):
    """The module `name`, or the end of the script when it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"skipped: {error}")
        sys.exit(77)


def argument_parser():
    """Of SLUICE TEXT..., which every check takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sluice")
    parser.add_argument("text", nargs="+")
    return parser


def sluice(program, *arguments):
    """Standard output of one call; a failing call ends the script with its message."""
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"sluice {' '.join(map(str, arguments))} failed:\n{result.stderr}")
    return result.stdout


def encode(program, tokenizer, text_file, folder):
    """The ids of a text file, without the end of document, by `sluice data build`."""
    import numpy

    prefix = folder / "encoded"
    sluice(program, "data", "build", "--tokenizer", tokenizer, "--out", prefix, text_file)
    code = (folder / "encoded.idx").read_bytes()[17]
    ids = numpy.fromfile(f"{prefix}.bin", dtype={4: numpy.int32, 8: numpy.uint16}[code])
    return ids[:-1].tolist()


def compare(what, ours, theirs):
    """Prints one line; returns whether the ids are equal."""
    if ours == theirs:
        print(f"equal: {what}: {len(ours)} ids")
        return True
    first = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    print(f"DIFFERENT: {what}: at {first}: {ours[first:first + 8]} and {theirs[first:first + 8]}")
    return False


TINY_CONFIG = """
model {
  hidden_size: 32 num_layers: 2 num_attention_heads: 4 num_key_value_heads: 2 head_dim: 8 vocab_size: 257
  moe { num_experts: 4 top_k: 2 moe_intermediate_size: 16 }
  gates { position: G1 granularity: HEADWISE }
}
training { steps: 6 sequence_length: 64 micro_batch_size: 2 global_batch_size: 4 }
optimizer { lr: 1e-3 }
logging { every: 2 }
"""


def train_tiny(program, texts, folder):
    """The run folder of a few steps of a tiny model on the texts' bytes."""
    prefix = folder / "data"
    sluice(program, "data", "build", "--tokenizer", "bytes", "--out", prefix, *texts)
    config = folder / "tiny.textproto"
    config.write_text(TINY_CONFIG + f'data {{ tokenizer: "bytes" train {{ prefix: "{prefix}" }} '
                      f'eval {{ name: "same" prefix: "{prefix}" }} eval_windows: 4 }}\n')
    sluice(program, "train", "--config", config, "--run", folder / "run")
    return folder / "run"
