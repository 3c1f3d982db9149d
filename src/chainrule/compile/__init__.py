"""Compile: the recorded program as native code. The module is itself the function ``chainrule.compile(fn)``.

LLVM is imported when something is first compiled.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from .front import Compiled, CompileError, compile_function

__all__ = ["Compiled", "CompileError", "compile_function"]


class _Room(types.ModuleType):
    def __call__(self, fn: Any = None, **options: Any) -> Any:
        for name in _PYTORCH_OPTIONS & options.keys():  # they choose among PyTorch's own back ends
            del options[name]
        # A model compiled by itself has its backward pass outside: here the whole step is what is compiled, and the
        # model stays as it is, so that PyTorch's `model = torch.compile(model)` runs.
        if hasattr(fn, "named_parameters"):
            return fn
        return compile_function(fn, **options)


_PYTORCH_OPTIONS = {"mode", "backend", "fullgraph", "dynamic", "options"}


_Room.__call__.__doc__ = compile_function.__doc__
sys.modules[__name__].__class__ = _Room
