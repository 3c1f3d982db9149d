"""PyTorch's names for nodes: ``AddBackward0``, ``MmBackward0``. It numbers the overloads of a function.

Most ops have the name that their own name gives; here are the others. What an op's arguments decide is a function of
the node, asked only when somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .dtypes import BFLOAT16
from .untyped import TUPLE

__all__ = ["plain", "torch_name"]


def plain(op_name: str) -> str:
    """``MulBackward0`` for ``mul``."""
    return "".join(part.capitalize() for part in op_name.split("_")) + "Backward0"


def torch_name(node: Any) -> str:
    """The name of a node in PyTorch, as far as one op is one op there too."""
    found = _NAMES.get(node.op.name)
    if found is None:
        return node.op.node_name
    return f"{found}Backward0" if isinstance(found, str) else found(node)


def _source(node: Any) -> Any:
    """The node that made the first input, if the same call of the user's made both; else None."""
    source = node.edges[0]
    if type(source) is TUPLE:
        source = source[0]
    same = getattr(source, "code", None) is node.code and getattr(source, "lasti", None) == node.lasti
    return source if same and hasattr(source, "op") and source.module is node.module else None


def _by_dim(node: Any) -> str:
    """``SumBackward0`` of all entries, ``SumBackward1`` over some axes."""
    return node.op.node_name[:-1] + ("0" if node.params.get("dim") is None else "1")


def _of_all(name: str, one: str) -> Callable[[Any], str]:
    """``MaxBackward1`` of all entries, ``AmaxBackward0`` over some axes."""
    return lambda node: f"{name}Backward1" if node.params.get("dim") is None else f"{one}Backward0"


def _operand(node: Any, i: int) -> Any:
    """Input i where no gradient flows; None where one does."""
    return None if node.edges[i] is not None or node.consts is None else node.consts[i]


def _pow(node: Any) -> str:
    """``PowBackward0`` for a number as exponent, ``PowBackward1`` for a tensor."""
    exponent = _operand(node, 1)
    return "PowBackward1" if node.edges[1] is not None or hasattr(exponent, "shape") else "PowBackward0"


def _sub(node: Any) -> str:
    """``number - tensor`` is ``rsub``."""
    return "RsubBackward1" if isinstance(_operand(node, 0), (int, float)) else "SubBackward0"


def _cast(node: Any) -> str:
    """``ToCopyBackward0``; what rounds an op's result to bfloat16 has the name of that op."""
    source = _source(node) if node.out[1] is BFLOAT16 else None
    return "ToCopyBackward0" if source is None or source.op is node.op else source.name()


def _matmul(node: Any) -> str:
    return {2: "MmBackward0", 3: "BmmBackward0"}.get(len(node.out[0]), "UnsafeViewBackward0")


def _linear(node: Any) -> str:
    bias = node.edges[2] is not None or _operand(node, 2) is not None
    if len(node.out[0]) == 2:
        return "AddmmBackward0" if bias else "MmBackward0"
    return "ViewBackward0" if bias else "UnsafeViewBackward0"


def _reshape(node: Any) -> str:
    """Which of view, squeeze and unsqueeze it was, as far as the shapes tell; or the op that it finishes."""
    source = _source(node)
    if source is not None and source.op is not node.op:
        if source.op.name == "matmul":
            return "MvBackward0" if node.out[0] else "DotBackward0"
        return source.name()
    saved = node.saved[0] if node.saved else None
    after = node.out[0]
    before = saved[0] if saved else after
    if len(after) < len(before) and after == tuple(n for n in before if n != 1):
        return "SqueezeBackward0"
    new = [d for d, n in enumerate(after) if n == 1] if len(after) == len(before) + 1 else []
    if any(after[:d] + after[d + 1 :] == before for d in new):
        return "UnsqueezeBackward0"
    return "ViewBackward0"


def _getitem(node: Any) -> str:
    """PyTorch takes one index after the other: the last that does something names the node."""
    for k in reversed(node.params["key"]):
        if k is None:
            return "UnsqueezeBackward0"
        if not isinstance(k, slice):
            return "SelectBackward0"
        if k != slice(None):
            return "SliceBackward0"
    return "AliasBackward0"


_NAMES: dict[str, str | Callable[[Any], str]] = {
    "sum": _by_dim, "mean": _by_dim, "prod": _by_dim, "amax": _of_all("Max", "Amax"), "amin": _of_all("Min", "Amin"),
    "pow": _pow, "sub": _sub, "cast": _cast, "matmul": _matmul, "linear": _linear, "reshape": _reshape,
    "getitem": _getitem, "clamp": lambda node: "ClampBackward1", "norm": "LinalgVectorNorm", "square": "Pow",
    "swap": "Transpose", "take_mask": "Index", "pad_constant": "ConstantPadNd", "on_diagonal": "DiagEmbed",
    "overwrite": lambda node: "CopyBackwards", "mse": "MseLoss", "l1": "Mean", "huber": "HuberLoss",
    "nll": "NllLoss", "cross_entropy": "NllLoss", "bce": "BinaryCrossEntropy", "take_axis": "IndexSelect",
    "bce_logits": "BinaryCrossEntropyWithLogits", "logsigmoid": "LogSigmoid", "prelu": "PreluKernel",
    "conv": "Convolution", "max_pool": "MaxPool2DWithIndices", "batch_norm": "NativeBatchNorm",
    "layer_norm": "NativeLayerNorm", "inv": "LinalgInvEx", "det": "LinalgDet", "logabsdet": "LinalgSlogdet",
    "cholesky": "LinalgCholeskyEx", "eigh": "LinalgEigh", "svd": "LinalgSvd", "qr": "LinalgQr",
    "solve": "LinalgSolveEx", "pinv": "LinalgPinv", "i0e": "SpecialI0E", "i1": "SpecialI1", "i1e": "SpecialI1E",
    "ndtri": "SpecialNdtri",
    "log_ndtr": "SpecialLogNdtr", "entr": "SpecialEntr", "erfcx": "SpecialErfcx", "xlog1py": "SpecialXlog1Py",
    "zeta": "SpecialZeta",
    "log1p": "Log1P", "deg2rad": "Deg2Rad", "rad2deg": "Rad2Deg", "tanhshrink": "Sub",
    "softsign": "Div",
}  # fmt: skip
