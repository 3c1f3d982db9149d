"""What PyTorch has and chainrule has not, and the words for it when somebody asks for such a name.

``pytorch_names.txt`` lists PyTorch's public names. It is read only when a name is not found.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["absent", "names", "reason"]

_WHY = (
    ("complex numbers and Fourier transforms", (
        "complex", "cfloat", "cdouble", "chalf", "fft", "stft", "istft", "polar", "conj", "imag", "real", "eig",
        "eigvals", "is_conj", "is_neg", "view_as_real", "resolve",
    )),
    ("sparse tensors", ("sparse", "coalesce", "to_dense", "smm", "hsmm", "dsmm", "hspmm", "spmm", "sspaddmm", "saddmm",
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
    "library": "autograd.Function",
    "script": "chainrule.compile",
}
"""The nearest that is there, where spelling does not lead to it."""

_listed: dict[str, tuple[str, ...]] = {}


def names() -> dict[str, tuple[str, ...]]:
    """PyTorch's public names by namespace (``torch``, ``torch.nn``, …)."""
    if not _listed:
        text = Path(__file__).with_name("pytorch_names.txt").read_text(encoding="utf-8")
        for line in text.splitlines():
            if not line.startswith("#"):
                space, _, listed = line.partition(": ")
                _listed[space] = tuple(listed.split())
    return _listed


def reason(name: str) -> str:
    """The group that a name belongs to, if it is left out as a whole; else ''."""
    for why, starts in _WHY:
        if any(name == s or (len(s) > 2 and name.startswith(s)) for s in starts):
            return why
    return ""


def absent(space: str, name: str, have: Iterable[str]) -> str:
    """The text of the AttributeError for ``chainrule.<space>.<name>``; ``have`` are the names that are there.

    >>> print(absent("torch", "stft", ["std", "softmax"]))
    module 'chainrule' has no attribute 'stft': torch.stft is a part of PyTorch that chainrule leaves out (complex ...)
    >>> print(absent("torch.nn", "Linaer", ["Linear"]))
    module 'chainrule.nn' has no attribute 'Linaer'. Did you mean chainrule.nn.Linear?
    """
    import difflib

    ours = "chainrule" + space.removeprefix("torch")
    owner = "'Tensor' object" if space == "torch.Tensor" else f"module {ours!r}"
    text = f"{owner} has no attribute {name!r}"
    if name in names().get(space, ()):
        why = reason(name)
        text += f": {space}.{name} is a part of PyTorch that chainrule leaves out" + (f" ({why})" if why else "")
        if name in _NEAREST and not why:
            return f"{text}. Nearest: {_NEAREST[name]}"
        near = difflib.get_close_matches(name, [n for n in have if not n.startswith("_")], 1, 0.75)
        return f"{text}. Nearest: {ours}.{near[0]}" if near and not why else text
    near = difflib.get_close_matches(name, [n for n in have if not n.startswith("_")], 1)
    return f"{text}. Did you mean {ours}.{near[0]}?" if near else text
