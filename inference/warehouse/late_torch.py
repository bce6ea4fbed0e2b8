"""Torch imported while other threads compute: it takes seconds, and most nights nothing needs it."""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _Finder(MetaPathFinder):
    """Finds torch as Python does, and gives it a ``Tensor`` from the beginning of its import on.

    As soon as ``sys.modules`` has torch, scipy asks of arrays whether they are a ``torch.Tensor``, and fails where
    torch is not yet that far. Until it is, nothing is one.
    """

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        if fullname != "torch" or (spec := PathFinder.find_spec(fullname, path, target)) is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            module.Tensor = type("Tensor", (), {})
            execute(module)

        spec.loader.exec_module = exec_module
        return spec


def allow_late_torch() -> None:
    """Let any thread import torch for the first time while scipy computes in others."""
    if "torch" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
