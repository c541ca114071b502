"""tiktoken must give the ids that sluice gives for the same rank file: for ranks made from a tokenizer that sluice
trained, with every split expression, and for any genuine file given with --ranks FAMILY=FILE.

    check_tiktoken.py SLUICE TEXT... [--ranks qwen=qwen.tiktoken]
"""

import base64
import json
import pathlib
import sys
import tempfile

from common import argument_parser, compare, encode, require, sluice

tiktoken = require("tiktoken")
tiktoken_load = require("tiktoken.load")
public = require("tiktoken_ext.openai_public")

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def patterns():
    """Split expressions as tiktoken itself has them; its constructors want to download ranks, so that is patched out."""
    public.load_tiktoken_bpe = lambda *_, **__: {}
    public.data_gym_to_mergeable_bpe_ranks = lambda *_, **__: {}
    return {
        "gpt2": public.gpt2()["pat_str"],
        "cl100k": public.cl100k_base()["pat_str"],
        "o200k": public.o200k_base()["pat_str"],
        "qwen": QWEN,
    }


def printable_to_bytes():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(other)}


def write_ranks(tokenizer_json, path):
    """The vocabulary of a byte-level tokenizer as a rank file: a merge's result has the merge's rank."""
    vocab = json.loads(pathlib.Path(tokenizer_json).read_text())["model"]["vocab"]
    alphabet = printable_to_bytes()
    with open(path, "wb") as out:
        for token, rank in sorted(vocab.items(), key=lambda item: item[1]):
            out.write(base64.b64encode(bytes(alphabet[c] for c in token)) + b" %d\n" % rank)


def main():
    parser = argument_parser()
    parser.add_argument("--ranks", action="append", default=[], metavar="FAMILY=FILE")
    options = parser.parse_args()

    equal = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sluice(options.sluice, "data", "tokenizer", "--vocab", 1024, "--out", folder / "trained.json", *options.text)
        files = dict(ranks.split("=", 1) for ranks in options.ranks)
        jobs = list(files.items())
        for family in patterns():
            path = folder / f"small_{family}.tiktoken"
            write_ranks(folder / "trained.json", path)
            jobs.append((family, path))
        for family, path in jobs:
            ranks = tiktoken_load.load_tiktoken_bpe(str(path))
            reference = tiktoken.Encoding(
                name=family, pat_str=patterns()[family], mergeable_ranks=ranks, special_tokens={}
            )
            for text in options.text:
                ids = encode(options.sluice, path, text, folder)
                expected = reference.encode_ordinary(pathlib.Path(text).read_bytes().decode("utf-8"))
                equal &= compare(f"{pathlib.Path(path).name} on {pathlib.Path(text).name}", ids, expected)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
