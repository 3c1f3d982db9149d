"""``torch.backends``, answering truthfully: none of PyTorch's backends is here. Switches are accepted."""

from __future__ import annotations

from typing import Any

__path__: list[str] = []
"""To the import system a package without files: `import torch.backends.cudnn` then asks for an attribute."""

__all__ = ["cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp", "opt_einsum"]


class _Backend:
    """A backend that is not there: its switches can be set and read, and turn nothing on."""

    def __init__(self, name: str, **switches: Any) -> None:
        self._name = name
        self.__dict__.update(switches)

    def is_available(self) -> bool:
        """False."""
        return False

    def is_built(self) -> bool:
        """False."""
        return False

    def version(self) -> None:
        """None."""
        return

    def __repr__(self) -> str:
        return f"<torch.backends.{self._name}: not available in chainrule>"


cudnn = _Backend("cudnn", enabled=True, deterministic=False, benchmark=False, allow_tf32=True, benchmark_limit=10)
cuda = _Backend("cuda", matmul=_Backend("cuda.matmul", allow_tf32=False, fp32_precision="none"))
mps = _Backend("mps")
mkl = _Backend("mkl")
mkldnn = _Backend("mkldnn", enabled=True, deterministic=False)
openmp = _Backend("openmp")
opt_einsum = _Backend("opt_einsum", enabled=False, strategy=None)
