"""Hugging Face `tokenizers` must give the ids that sluice gives: for a tokenizer.json trained by sluice, for one trained
by `tokenizers` (GPT-2 split, NFC, added tokens), and for any file given with --tokenizer.

    check_tokenizer.py SLUICE TEXT... [--tokenizer FILE.json]
"""

import pathlib
import sys
import tempfile

from common import argument_parser, compare, encode, require, sluice

tokenizers = require("tokenizers")
require("numpy")


def read(path):
    return pathlib.Path(path).read_bytes().decode("utf-8")


def train_gpt2_like(texts, path):
    """A file with the parts that sluice's own lack."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=5000,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_start|>user"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(t) for t in texts], trainer)
    tokenizer.save(str(path))


def main():
    parser = argument_parser()
    parser.add_argument("--tokenizer", action="append", default=[])
    options = parser.parse_args()

    equal = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        tricky = folder / "tricky.txt"
        tricky.write_bytes(
            "I'M he'll DON'T it\u2019s  x\u00a0y\u2003z\u180e\n\n \t\r\n  end<|im_start|>user <|im_start|>a 12345 \u0660\u0661 "
            "e\u0301 \uac00\u1100\u1161 \u4f60\u597d\u4e16\u754c \U0001f600\U0001f468\u200d\U0001f469 a\u0085b \u1680c \ufeffd\u200b  ".encode()
        )
        ours, theirs = folder / "ours.json", folder / "theirs.json"
        sluice(options.sluice, "data", "tokenizer", "--vocab", 1024, "--out", ours, *options.text)
        train_gpt2_like(options.text, theirs)
        for tokenizer in [ours, theirs, *options.tokenizer]:
            reference = tokenizers.Tokenizer.from_file(str(tokenizer))
            for text in [tricky, *options.text]:
                ids = encode(options.sluice, tokenizer, text, folder)
                expected = reference.encode(read(text), add_special_tokens=False).ids
                equal &= compare(f"{pathlib.Path(tokenizer).name} on {pathlib.Path(text).name}", ids, expected)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
