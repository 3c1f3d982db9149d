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
                    f"The size of tensor a ({m}) must match the size of tensor b ({n}) at non-singleton dimension {dim}"
                )
    return None


_TORCH_NAMES = {"f2": "Half", "f4": "Float", "f8": "Double", "b1": "Bool", "u1": "Byte", "i1": "Char", "i2": "Short",
                "i4": "Int", "i8": "Long"}  # fmt: skip


def _unsupported(op: Op, inputs: tuple[Any, ...], place: Any) -> str:
    """PyTorch's words for an op that has no meaning for a dtype."""
    kind = next((x._array.dtype.str[1:] for x in inputs if isinstance(x, Variable)), "f4")
    for x in inputs:  # a number promotes what it meets
        if isinstance(x, float):
            kind = "f4"
    name = {"bitwise_left_shift": "lshift", "bitwise_right_shift": "rshift"}.get(op.name, op.name)
    return message(
        f"\"{name}_cpu\" not implemented for '{_TORCH_NAMES.get(kind, kind)}'",
        f"{op.name}: " + ", ".join(f"{n} is {describe(x)}" for n, x in zip(op.inputs, inputs, strict=False)),
        at=place,
        source=place.source if place else "",
    )


def explain_failure(op: Op, inputs: tuple[Any, ...], params: dict[str, Any], error: Exception) -> Exception:
    """The exception to raise instead of ``error``, which the op's NumPy body raised."""
    if isinstance(error, (ChainruleError, MemoryError, NotImplementedError)):
        return error
    place = here()
    if isinstance(error, TypeError) and "not supported for the input types" in str(error):
        return NotImplementedError(_unsupported(op, inputs, place))
    what = _torch_first_line(op, inputs)
    named = [
        f"{n} is {describe(x)}"
        for n, x in zip(
            op.inputs if not op.variadic else [f"{op.inputs[0]}[{i}]" for i in range(len(inputs))], inputs, strict=False
        )
    ]
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
