"""Megatron's own indexed_dataset.py must read what sluice writes, and sluice what Megatron writes.

    check_megatron.py SLUICE TEXT...
"""

import base64
import itertools
import json
import pathlib
import string
import sys
import tempfile

from common import argument_parser, encode, require, sluice

numpy = require("numpy")
torch = require("torch")
indexed = require("megatron.core.datasets.indexed_dataset")


def large_tokenizer(folder):
    """A rank file of so many ids that Megatron stores them in 32 bits: the bytes, and words of three and four letters."""
    letters = [" " + "".join(word) for n in (3, 4) for word in itertools.product(string.ascii_lowercase, repeat=n)]
    ranks = [bytes([b]) for b in range(256)] + [word.encode() for word in letters[:70000]]
    path = folder / "large_gpt2.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks)))
    return path


def read_ours(program, texts, folder):
    """Builds uint16 and int32 sets and compares every document; returns the number of differences."""
    differences = 0
    for tokenizer in ["bytes", large_tokenizer(folder)]:
        prefix = folder / "ours"
        sluice(program, "data", "build", "--tokenizer", tokenizer, "--out", prefix, *texts)
        theirs = indexed.IndexedDataset(str(prefix))
        assert len(theirs) == len(texts) and list(theirs.document_indices) == list(range(len(texts) + 1))
        for i, text in enumerate(texts):
            expected = encode(program, tokenizer, text, folder)
            differences += theirs[i][:-1].tolist() != expected
        print(f"Megatron reads {theirs.index.dtype.__name__}: {len(theirs)} documents, {differences} differ")
    return differences


def read_theirs(program, folder):
    """Documents of several sequences, in both widths."""
    random = numpy.random.default_rng(1)
    differences = 0
    for vocab, dtype in [(500, numpy.uint16), (150000, numpy.int32)]:
        assert indexed.DType.optimal_dtype(vocab) == dtype
        prefix = folder / f"theirs_{vocab}"
        builder = indexed.IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
        tokens, largest = 0, 0
        for _ in range(100):
            lengths = random.integers(1, 50, size=random.integers(1, 4)).tolist()
            ids = random.integers(0, vocab, size=sum(lengths))
            builder.add_document(torch.from_numpy(ids), lengths)
            tokens, largest = tokens + len(ids), max(largest, int(ids.max()))
        builder.finalize(f"{prefix}.idx")
        info = json.loads(sluice(program, "data", "info", prefix, "--json"))
        same = (info["documents"], info["tokens"], info["largest_id"]) == (100, tokens, largest)
        print(f"sluice reads {dtype.__name__}: {'equal' if same else 'DIFFERENT'}: {info}")
        differences += not same
    return differences


def main():
    options = argument_parser().parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        differences = read_ours(options.sluice, options.text, folder) + read_theirs(options.sluice, folder)
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
