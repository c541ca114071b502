"""The safetensors package must read a checkpoint's shard, with the shapes, dtypes and bytes that the manifest lists.

    check_safetensors.py SLUICE TEXT...
"""

import pathlib
import re
import sys
import tempfile

from common import argument_parser, require, train_tiny

safetensors = require("safetensors")
require("numpy")

PIECE = re.compile(r'^pieces \{\n(.*?)^\}', re.M | re.S)


def fields(piece):
    """name -> list of values, of a message in text format without its inner messages."""
    found = {}
    for name, value in re.findall(r'^  (\w+): "?([^"\n]*)"?$', piece, re.M):
        found.setdefault(name, []).append(value)
    return found


def main():
    options = argument_parser().parse_args()

    compared = differences = 0
    with tempfile.TemporaryDirectory() as name:
        run = train_tiny(options.sluice, options.text, pathlib.Path(name))
        folder = max((run / "checkpoints").iterdir())
        for piece in map(fields, PIECE.findall((folder / "manifest.textproto").read_text())):
            with safetensors.safe_open(folder / piece["file"][0], framework="numpy") as shard:
                tensor = shard.get_tensor(piece["tensor"][0])
            same = (tensor.dtype.name == {"F32": "float32", "F64": "float64"}[piece["dtype"][0]]
                    and list(tensor.shape) == [int(n) for n in piece["global_shape"]]
                    and tensor.nbytes == int(piece["bytes"][0]))
            compared, differences = compared + 1, differences + (not same)
            if not same:
                print(f"DIFFERENT: {piece['tensor'][0]}: {tensor.dtype} {tensor.shape}, the manifest says {piece}")
        with safetensors.safe_open(folder / piece["file"][0], framework="numpy") as shard:
            differences += len(shard.keys()) != compared
    print(f"safetensors reads {compared} pieces, {differences} differ")
    sys.exit(1 if differences or compared == 0 else 0)


if __name__ == "__main__":
    main()
