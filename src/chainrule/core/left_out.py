"""What PyTorch has and chainrule has not, and the words for it when somebody asks for such a name.

``pytorch_names.txt`` lists PyTorch's public names. It is read only when a name is not found.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from typing import Any

__all__ = ["TENSOR", "absent", "install", "mark", "missing", "names", "nearest", "reason"]

_WHY = (
    ("complex numbers and Fourier transforms", (
        "complex", "cfloat", "cdouble", "chalf", "fft", "stft", "istft", "polar", "conj", "imag", "real", "eig",
        "eigvals", "is_conj", "is_neg", "view_as_real", "resolve",
    )),
    ("sparse tensors", ("sparse", "to_sparse", "resize_as_sparse_", "coalesce",
        "to_dense", "smm", "hsmm", "dsmm", "hspmm", "spmm", "sspaddmm", "saddmm",
        "crow_", "ccol_", "row_indices", "col_indices", "indices", "values", "is_coalesced",
        "dense_dim")),
    ("quantised tensors", ("quant", "qint", "quint", "QInt", "QUInt", "qscheme", "q_", "int_repr", "per_tensor_",
        "per_channel_", "ao", "qat", "float8", "float4", "int1", "int2", "int3", "int4", "int5", "int6", "int7",
        "uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "bits")),
    ("TorchScript and graph export", ("jit", "fx", "export", "onnx", "package", "ScriptFunction", "StaticModule",
        "CompilationUnit", "Graph", "Node", "Value")),
    ("storages", ("Storage", "storage", "TypedStorage", "UntypedStorage", "untyped")),
    ("other devices", ("cuda", "xpu", "mtia", "hpu", "ipu", "is_mps", "is_x", "is_m", "is_v", "is_ipu", "Stream",
        "Event", "record_stream", "to_mkldnn", "vulkan")),
    ("nested tensors", ("nested", "jagged", "is_nested", "to_padded")),
    ("data pipes, which PyTorch no longer develops: use datasets", ("IterDataPipe", "MapDataPipe", "DFIterDataPipe",
        "DataChunk", "functional_datapipe", "guaranteed_datapipes_determinism", "non_deterministic",
        "runtime_validation", "argument_validation")),
    ("training across machines", ("distributed", "Distributed", "futures")),
)  # fmt: skip

_NEAREST = {
    "embedding_bag": "nn.functional.embedding_bag",
    "functional": "chainrule.nn.functional",
    "library": "autograd.Function",
    "script": "chainrule.compile",
}
"""The nearest that is there, where spelling does not lead to it."""

_listed: dict[str, tuple[str, ...]] = {}


def names() -> dict[str, tuple[str, ...]]:
    """PyTorch's public names by namespace (``torch``, ``torch.nn``, …)."""
    if not _listed:
        with open(os.path.join(os.path.dirname(__file__), "pytorch_names.txt"), encoding="utf-8") as file:
            text = file.read()
        for line in text.splitlines():
            if not line.startswith("#"):
                space, _, listed = line.partition(": ")
                _listed[space] = tuple(listed.split())
    return _listed


def reason(name: str) -> str:
    """The group that a name belongs to, if it is left out as a whole; else ''."""
    for why, starts in _WHY:
        if any(name == s or ((len(s) > 2 or s.endswith("_")) and name.startswith(s)) for s in starts):
            return why
    return ""


def absent(space: str, name: str, have: Iterable[str]) -> str:
    """The text of the AttributeError for ``chainrule.<space>.<name>``; ``have`` are the names that are there.

    >>> print(absent("torch", "stft", ["std", "softmax"]))
    module 'chainrule' has no attribute 'stft': torch.stft is a part of PyTorch that chainrule leaves out (complex ...)
    >>> print(absent("torch.nn", "Linaer", ["Linear"]))
    module 'chainrule.nn' has no attribute 'Linaer'. Did you mean chainrule.nn.Linear?
    """
    ours = "chainrule" + space.removeprefix("torch")
    owner = "'Tensor' object" if space == "torch.Tensor" else f"module {ours!r}"
    text = f"{owner} has no attribute {name!r}"
    if name in names().get(space, ()):
        why = reason(name)
        text += f": {space}.{name} is a part of PyTorch that chainrule leaves out" + (f" ({why})" if why else "")
        return f"{text}. Nearest: {_NEAREST[name]}" if name in _NEAREST and not why else text
    near = nearest(name, have)
    return f"{text}. Did you mean {ours}.{near}?" if near else text


def nearest(name: str, have: Iterable[str]) -> str:
    """The name that ``name`` is a misspelling of: one letter in four may be wrong, missing, too many or swapped.

    Names that begin with an underscore are no misspelling of a public one; ``hasattr`` asks for many of them.

    >>> nearest("softmx", ["softmax", "std"]), nearest("to_device", ["get_device"])
    ('softmax', '')
    """
    if name.startswith("_"):
        return ""
    most, letters = max(1, len(name) // 4), set(name.lower())
    found = [
        (_distance(name, n), n)
        for n in have
        if not n.startswith("_")
        and abs(len(n) - len(name)) <= most
        and len(letters.difference(n.lower())) <= most  # each letter that n has not costs one, and is counted quickly
    ]
    best = min(found, default=(most + 1, ""))
    return best[1] if best[0] <= most else ""


def _distance(a: str, b: str) -> int:
    """How many letters to change, insert, drop or swap with the next (optimal string alignment, case left aside)."""
    a, b = a.lower(), b.lower()
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, c in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, d in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (c != d))
            if i > 1 and j > 1 and c == b[j - 2] and a[i - 2] == d:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def missing(space: str, name: str, have: Iterable[str]) -> AttributeError:
    """The error for such a name. Without the owner, so that Python adds no guess of its own to the text."""
    return AttributeError(absent(space, name, have), name=name, obj=None)


TENSOR = (
    "cdouble", "cfloat", "chalf", "conj_physical_", "index", "int_repr", "ipu", "istft", "module_load", "mtia",
    "q_per_channel_axis", "q_per_channel_scales", "q_per_channel_zero_points", "q_scale", "q_zero_point", "qscheme",
    "record_stream", "resize_as_sparse_", "smm", "sparse_mask", "sparse_resize_", "sparse_resize_and_clear_",
    "sspaddmm", "stft", "storage_type", "to_mkldnn", "to_padded_tensor", "to_sparse", "to_sparse_bsc", "to_sparse_bsr",
    "to_sparse_coo", "to_sparse_csc", "to_sparse_csr", "xpu",
)  # fmt: skip
"""The methods and attributes of PyTorch's Tensor that are left out."""


class _Method:
    """Stands for one of them on the class. A ``__getattr__`` would slow down every attribute that is there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, tensor: Any, kind: Any = None) -> Any:
        raise missing("torch.Tensor", self.name, ())


def mark(tensor_type: Any) -> None:
    """Let the left-out names of ``tensor_type`` say what they are."""
    for name in TENSOR:
        setattr(tensor_type, name, _Method(name))


class _Finder:
    """Asked last, when no module is found: ``import chainrule.fft`` learns why.

    Tools that load files by themselves ask every finder, also for modules that are there.
    """

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> None:
        package, _, name = fullname.rpartition(".")
        if package.partition(".")[0] == "chainrule":
            space = "torch" + package.removeprefix("chainrule")
            here = getattr(sys.modules.get(package), "__path__", [])
            if name in names().get(space, ()) and PathFinder.find_spec(fullname, here) is None:
                said = absent(space, name, ()).partition(": ")[2]
                raise ModuleNotFoundError(f"No module named {fullname!r}: {said}", name=fullname)


def install() -> None:
    """Let imports of left-out modules say why they fail."""
    sys.meta_path.append(_Finder)  # type: ignore[arg-type]
