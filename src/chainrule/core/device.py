"""Where a tensor lives: ``device("cpu")``, the only place there is here, with PyTorch's words for all others."""

from __future__ import annotations

from typing import Any

from ..errors import message

__all__ = [
    "device", "CPU", "check_device", "refusal", "layout", "memory_format", "strided", "contiguous_format",
    "preserve_format", "channels_last",
]  # fmt: skip

_TYPES = (
    "cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, vulkan, mps, meta, hpu, mtia, "
    "privateuseone"
)


class device:
    """A device by name, as PyTorch prints and compares it. Tensors are made on ``cpu`` only."""

    __slots__ = ("type", "index")
    type: str
    index: int | None

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        if isinstance(type, device):
            type, index = type.type, type.index
        elif isinstance(type, int):
            type, index = "cuda", type
        name, colon, number = str(type).partition(":")
        if name not in _TYPES.split(", ") or (colon and not number.isdigit()):
            if colon and name in _TYPES.split(", "):
                raise RuntimeError(f"Invalid device string: '{type}'")
            raise RuntimeError(f"Expected one of {_TYPES} device type at start of device string: {name}")
        self.type = name
        self.index = int(number) if colon else index

    def __repr__(self) -> str:
        return (
            f"device(type='{self.type}')" if self.index is None else f"device(type='{self.type}', index={self.index})"
        )

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> Any:
        return (device, (str(self),))


CPU = device("cpu")


def check_device(d: Any) -> None:
    """Accept None and the CPU.

    Raises:
        AssertionError: for CUDA, as a PyTorch without CUDA does.
        NotImplementedError: for other devices that PyTorch knows.
        RuntimeError: for names that it does not know.
    """
    if d is None or d == "cpu" or d is CPU:
        return
    kind = device(d).type
    if kind == "cpu":
        return
    if kind == "cuda":
        raise AssertionError(refusal("Torch not compiled with CUDA enabled"))
    raise NotImplementedError(refusal(f"there is no device {kind!r} here"))


def refusal(what: str) -> str:
    """The message for a device that is not there."""
    fix = "Leave .cuda() and device= out, or write device = 'cuda' if torch.cuda.is_available() else 'cpu'."
    return message(what, "chainrule computes on the CPU, the only device it has", fix=fix)


class _Named:
    """A constant that prints as PyTorch's does (layouts and memory formats)."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"


class layout(_Named):
    """How entries lie in memory; strided is the only layout here."""

    __slots__ = ()


class memory_format(_Named):
    """The order of axes in memory, accepted where PyTorch takes it."""

    __slots__ = ()


strided = layout("strided")
contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
