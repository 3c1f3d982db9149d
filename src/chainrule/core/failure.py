"""From a NumPy exception inside an op to a message about the user's operands and line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ChainruleError, IndexOutOfRange, OpError, ShapeError, message
from .locate import here
from .variable import Variable

if TYPE_CHECKING:
    from .op import Op

__all__ = ["explain_failure", "describe"]


def describe(x: Any) -> str:
    """Shape and dtype of an operand, or the number itself."""
    shape = getattr(x, "shape", None)
    if shape is None:
        return repr(x)
    array = x._array if isinstance(x, Variable) else x
    return f"({', '.join(map(str, shape))}) {array.dtype.name}"


def _torch_first_line(op: Op, inputs: tuple[Any, ...]) -> str | None:
    """PyTorch's own first line for the failures that people meet most."""
    shapes = [tuple(x.shape) for x in inputs if hasattr(x, "shape")]
    if op.broadcasts and len(shapes) >= 2:
        for i, (m, n) in enumerate(zip(reversed(shapes[0]), reversed(shapes[1]), strict=False)):
            if m != n and 1 not in (m, n):
                dim = max(len(shapes[0]), len(shapes[1])) - 1 - i
                return (
                    f"The size of tensor a ({m}) must match the size of tensor b ({n}) "
                    f"at non-singleton dimension {dim}"
                )
    return None


def explain_failure(op: Op, inputs: tuple[Any, ...], params: dict[str, Any], error: Exception) -> Exception:
    """The exception to raise instead of ``error``, which the op's NumPy body raised."""
    if isinstance(error, (ChainruleError, MemoryError)):
        return error
    place = here()
    what = _torch_first_line(op, inputs)
    named = [f"{n} is {describe(x)}" for n, x in zip(op.inputs if not op.variadic else [f"{op.inputs[0]}[{i}]" for i in range(len(inputs))], inputs, strict=False)]
    details = [f"{op.name}: {', '.join(named)}" + (f"; {params}" if params else "")]
    details.append(f"signature: {op.signature}")
    kind: type[ChainruleError]
    if what is not None:
        kind = ShapeError
    else:
        what = f"{op.name}: {error}"
        if isinstance(error, IndexError) or type(error).__name__ == "AxisError":
            kind = IndexOutOfRange
        elif isinstance(error, (ValueError, RuntimeError)):
            kind = ShapeError
        elif isinstance(error, TypeError):
            return TypeError(message(what, *details, at=place, source=place.source if place else ""))
        else:
            kind = OpError
    return kind(message(what, *details, at=place, source=place.source if place else ""))
