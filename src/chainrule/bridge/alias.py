"""``import torch`` served by chainrule: in this process, and only while asked.

    with chainrule.as_torch():
        import torch                      # chainrule
        from torch.utils.data import DataLoader

``install()`` does the same for the rest of the process (``chainrule run script.py``). A real PyTorch that is loaded
already is put back when the block ends.

**The version.** What ``import torch`` gives has all of chainrule's names and one of its own: ``__version__`` says
"2.13.0+chainrule", the PyTorch whose API this is. Programs compare it with "1.10" or (2, 0) to learn what they may do,
and chainrule's own version, which ``chainrule.__version__`` is everywhere, would send them to the oldest branch.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

__all__ = ["as_torch", "install"]


_FILES = {
    "nn.utils.clip_grad": "nn.utils.clip",
    "nn.utils.convert_parameters": "nn.utils.vector",
    "optim.adamw": "optim.adam",
    "utils.data._utils": "data",
    "utils.data._utils.collate": "data.collate",
    "storage": "core.storage",
    "utils.hooks": "core.hooks",
}
"""Files of PyTorch's that programs import from, which have another name here."""


class _StandIn(ModuleType):
    """chainrule under the name of torch. What a program assigns to ``torch.something`` stays with this module."""

    def __init__(self) -> None:
        import chainrule

        from .torch_version import SERVED

        super().__init__("torch", chainrule.__doc__)
        self.__version__ = SERVED
        self.__path__ = []
        vars(self).update({k: v for k, v in vars(chainrule).items() if not k.startswith("__")})

    def __getattr__(self, name: str) -> Any:
        import chainrule

        found = getattr(chainrule, name)
        if not name.startswith("__"):
            setattr(self, name, found)
        return found

    def __dir__(self) -> list[str]:
        import chainrule

        return sorted({*vars(self), *dir(chainrule)})


@functools.cache
def _stand_in() -> _StandIn:
    return _StandIn()


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Resolves ``torch`` and ``torch.a.b`` to ``chainrule`` and ``chainrule.a.b``."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname == "torch" or fullname.startswith("torch."):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        if fullname in ("torchvision", "torchaudio", "torchtext") or fullname.startswith("torchvision."):
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: chainrule stands in for torch here, and has no "
                f"{fullname.split('.')[0]}. chainrule.data.load_digits() has real images; other data comes "
                "in as NumPy arrays.",
                name=fullname,
            )
        return None

    def create_module(self, spec: Any) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        below = name[len("torch.") :]
        if not below:
            sys.modules[name] = _stand_in()
            return
        ours = f"chainrule.{_FILES.get(below, below)}"
        try:
            real = importlib.import_module(ours)
        except ModuleNotFoundError as error:
            if error.name is None or not ours.startswith(error.name):
                raise
            parent = importlib.import_module(ours.rpartition(".")[0])
            found = getattr(parent, ours.rpartition(".")[2], None)
            if found is None:
                why = str(error).partition(": ")[2] or "it is a part of PyTorch that chainrule leaves out"
                raise ModuleNotFoundError(f"No module named {name!r}: {why}", name=name) from None
            real = found
        # The import system looks the module up again after this: what it finds here is what `import` binds.
        sys.modules[name] = real


def _forget() -> dict[str, ModuleType]:
    """Take ``torch`` and all below it out of ``sys.modules``."""
    names = [n for n in sys.modules if n == "torch" or n.startswith("torch.")]
    return {n: sys.modules.pop(n) for n in names}


class as_torch:
    """While this is entered, ``import torch`` gives chainrule. Blocks may be nested.

    >>> import chainrule
    >>> with chainrule.as_torch():
    ...     import torch
    ...     import torch.nn.functional as F
    >>> torch.nn is chainrule.nn, torch.__version__, torch.__version__ >= (2, 0)
    (True, '2.13.0+chainrule', True)
    """

    def __init__(self) -> None:
        self._finder = _Finder()
        self._before: dict[str, ModuleType] = {}

    def __enter__(self) -> ModuleType:
        self._before = _forget()
        sys.meta_path.insert(0, self._finder)
        return importlib.import_module("torch")

    def __exit__(self, *exc: object) -> None:
        sys.meta_path.remove(self._finder)
        _forget()
        sys.modules.update(self._before)


def install() -> None:
    """``import torch`` gives chainrule from here on."""
    as_torch().__enter__()
