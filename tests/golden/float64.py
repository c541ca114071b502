"""Runs modelling code that casts to float32 inside wholly in float64, and proves that it did."""
import importlib.util
import re
import sys
import types
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CASTS = ((re.compile(r"\btorch\.float(32)?\b"), "torch.float64"), (re.compile(r"\.float\(\)"), ".double()"))


def widen(module, source):
    """Replaces every float32 cast in the text of a module and prints where; line numbers stay."""
    lines = source.split("\n")
    for index, line in enumerate(lines):
        for cast, wide in CASTS:
            lines[index] = cast.sub(wide, lines[index])
        if lines[index] != line:
            print(f"  {module}:{index + 1}: {line.strip()}")
    return "\n".join(lines)


class WideningLoader(SourceFileLoader):
    def get_code(self, fullname):  # not source_to_code, which cached bytecode would bypass
        source = Path(self.path).read_text(encoding="utf-8")
        return compile(widen(fullname, source), self.path, "exec")


class WideningFinder(MetaPathFinder):
    """Finds the modules in `files` (name -> path, or None for where it is installed)."""

    def __init__(self, files):
        self.files = files

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.files:
            return None
        file = str(self.files[fullname] or PathFinder.find_spec(fullname, path).origin)
        return importlib.util.spec_from_file_location(fullname, file, loader=WideningLoader(fullname, file))


def install(installed, package, files):
    """Widens the named modules of installed packages when they are imported, and makes `package` out of loose files
    (module name -> path), widened as well. Must come before the first import of any of them."""
    parent = types.ModuleType(package)
    parent.__path__ = []
    sys.modules[package] = parent
    names = dict.fromkeys(installed) | {f"{package}.{name}": path for name, path in files.items()}
    sys.meta_path.insert(0, WideningFinder(names))
    torch.set_default_dtype(torch.float64)


class OnlyFloat64(TorchDispatchMode):
    """Within it, an operation, forward or backward, that yields a floating-point tensor of another type fails."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64:
                raise TypeError(f"{function} returned {value.dtype}, expected torch.float64")
        return result
