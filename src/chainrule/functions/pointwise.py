"""Elementwise functions and operators with PyTorch's argument forms.

Most are an op and nothing more: a table says which, ``unary`` and ``binary`` add the check of the first argument and
``out=``. The operators of Tensor, and the methods of one argument, are the ops themselves.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import dtypes
from ..core.dtypes import FLOATS
from ..core.live import values_read
from ..core.op import registry
from ..core.variable import Variable, wrap
from ..ops import arithmetic, compare, elementwise, special, trigonometry
from ._args import cast, need_tensor, number_or_tensor
from ._results import named
from .inplace import into, make_inplace


def unary(name: str, op: Any) -> Callable[..., Any]:
    """``op`` as the function ``name(input, *, out=None)``."""

    def function(input: Any, *, out: Any = None) -> Any:
        if not isinstance(input, Variable):
            need_tensor(input, name)
        return op(input) if out is None else into(out, op(input), name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.__doc__
    return function


def binary(name: str, op: Any, numbers: str = "other") -> Callable[..., Any]:
    """``op`` as ``name(input, other, *, out=None)``; ``numbers``: which may be a number: "", "other" or "either"."""

    def function(input: Any, other: Any, *, out: Any = None) -> Any:
        if not isinstance(input, Variable) and (numbers != "either" or not isinstance(other, Variable)):
            need_tensor(input, name)
        if not isinstance(other, Variable):
            other = _operand(other, name, numbers)
        return op(input, other) if out is None else into(out, op(input, other), name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.__doc__
    return function


def _operand(other: Any, name: str, numbers: str = "other") -> Any:
    if isinstance(other, (float, int)) and numbers:
        return float(other) if isinstance(other, np.floating) else other
    if isinstance(other, (np.ndarray, np.generic)):
        return number_or_tensor(other)
    raise TypeError(f"{name}(): argument 'other' (position 2) must be Tensor, not {type(other).__name__}")


_UNARY = {
    "exp": elementwise.exp, "exp2": elementwise.exp2, "expm1": elementwise.expm1, "log": elementwise.log,
    "log2": elementwise.log2, "log10": elementwise.log10, "log1p": elementwise.log1p, "sqrt": elementwise.sqrt,
    "rsqrt": elementwise.rsqrt, "square": elementwise.square, "reciprocal": elementwise.reciprocal,
    "sigmoid": elementwise.sigmoid, "tanh": elementwise.tanh, "relu": elementwise.relu, "abs": elementwise.abs,
    "neg": arithmetic.neg, "sign": elementwise.sign, "sgn": elementwise.sign, "floor": elementwise.floor,
    "ceil": elementwise.ceil, "trunc": elementwise.trunc, "frac": elementwise.frac, "sin": trigonometry.sin,
    "cos": trigonometry.cos, "tan": trigonometry.tan, "asin": trigonometry.asin, "acos": trigonometry.acos,
    "atan": trigonometry.atan, "sinh": trigonometry.sinh, "cosh": trigonometry.cosh, "asinh": trigonometry.asinh,
    "acosh": trigonometry.acosh, "atanh": trigonometry.atanh, "sinc": trigonometry.sinc,
    "deg2rad": trigonometry.deg2rad, "rad2deg": trigonometry.rad2deg, "erf": special.erf, "erfc": special.erfc,
    "erfinv": special.erfinv, "lgamma": special.lgamma, "digamma": special.digamma, "i0": special.i0,
    "bitwise_not": compare.bitwise_not, "signbit": compare.signbit, "logical_not": compare.logical_not,
}  # fmt: skip
_PREDICATES = {name: getattr(compare, name) for name in ("isnan", "isinf", "isfinite", "isposinf", "isneginf")}
_TENSORS = {
    "atan2": arithmetic.atan2, "hypot": arithmetic.hypot, "logaddexp": arithmetic.logaddexp,
    "logaddexp2": arithmetic.logaddexp2, "ldexp": arithmetic.ldexp, "maximum": compare.maximum,
    "minimum": compare.minimum, "fmax": compare.fmax, "fmin": compare.fmin, "logical_and": compare.logical_and,
    "logical_or": compare.logical_or, "logical_xor": compare.logical_xor, "gcd": compare.gcd, "lcm": compare.lcm,
    "heaviside": compare.heaviside, "nextafter": compare.nextafter,
}  # fmt: skip
_NUMBERS = {
    "mul": arithmetic.mul, "floor_divide": arithmetic.floor_divide, "fmod": arithmetic.fmod,
    "copysign": arithmetic.copysign, "pow": arithmetic.pow, "remainder": arithmetic.remainder, "xlogy": special.xlogy,
    "bitwise_and": compare.bitwise_and, "bitwise_or": compare.bitwise_or, "bitwise_xor": compare.bitwise_xor,
    "bitwise_left_shift": compare.bitwise_left_shift, "bitwise_right_shift": compare.bitwise_right_shift,
}  # fmt: skip
_TENSORS |= {"igamma": special.gammainc, "igammac": special.gammaincc}
_EITHER = ("mul", "pow", "remainder", "xlogy", "bitwise_and", "bitwise_or", "bitwise_xor", "floor_divide")
_ALIASES = {
    "absolute": "abs", "negative": "neg", "fix": "trunc", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "arctan2": "atan2", "multiply": "mul",
    "subtract": "sub", "divide": "div", "true_divide": "div", "clip": "clamp",
}  # fmt: skip

if TYPE_CHECKING:  # what the tables make

    def __getattr__(name: str) -> Any: ...


globals().update({name: unary(name, op) for name, op in (_UNARY | _PREDICATES).items()})
globals().update({name: binary(name, op, "") for name, op in _TENSORS.items()})
globals().update({name: binary(name, op, "either" if name in _EITHER else "other") for name, op in _NUMBERS.items()})
_BINARY = _TENSORS | _NUMBERS
_TABLE = (*_UNARY, *_BINARY)

# --- what needs more than a table row -------------------------------------------------------------------------------


def _scaled(name: str, op: Any) -> Callable[..., Any]:
    def function(input: Any, other: Any, *, alpha: Any = 1, out: Any = None) -> Any:
        if not isinstance(input, Variable) and not isinstance(other, Variable):
            need_tensor(input, name)
        if not isinstance(other, Variable):
            other = _operand(other, name)
        if alpha != 1:
            operands = [v._array if isinstance(v, Variable) else v for v in (input, other)]
            if isinstance(alpha, float) and dtypes.result_dtype(*operands) not in FLOATS:
                raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
            if not isinstance(other, Variable):
                other = other * alpha
            elif name != "sub" or other._array.dtype.kind != "b":  # bools are not subtracted, which the op says
                # In the common dtype: a byte times −1 would wrap.
                wanted = dtypes.result_dtype(*(v._array if isinstance(v, Variable) else v for v in (input, other)))
                other = arithmetic.mul(cast(other, wanted), builtins.bool(alpha) if wanted == np.bool_ else alpha)
        return op(input, other) if out is None else into(out, op(input, other), name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = op.__doc__
    return function


_FLOAT_DTYPES = (dtypes.float16, dtypes.float32, dtypes.float64)
add, sub = _scaled("add", arithmetic.add), _scaled("sub", arithmetic.sub)


def positive(input: Any) -> Any:
    """The tensor itself.

    Raises:
        RuntimeError: for bools.
    """
    if need_tensor(input, "positive")._array.dtype.kind == "b":
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def conj(input: Any) -> Any:
    """The tensor itself: there are no complex ones here."""
    return need_tensor(input, "conj")


resolve_conj = resolve_neg = conj


def isreal(input: Any) -> Any:
    """True everywhere."""
    return wrap(np.ones(need_tensor(input, "isreal")._array.shape, bool))


def is_nonzero(input: Any) -> bool:
    """Whether a tensor with one entry is not 0."""
    a = need_tensor(input, "is_nonzero")._array
    if a.size != 1:
        what = "no values" if a.size == 0 else "more than one value"
        raise RuntimeError(f"Boolean value of Tensor with {what} is ambiguous")
    return bool(input)


def angle(input: Any, *, out: Any = None) -> Any:
    """0 for positive numbers, π for negative ones."""
    x = need_tensor(input, "angle")
    if x._array.dtype not in FLOATS:
        x = cast(x, dtypes.default.numpy)
    result = compare.where(x != x, x, compare.where(x < 0, x * 0 + float(np.pi), x * 0))
    return result if out is None else into(out, result, "angle")


def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """other − alpha · input."""
    return arithmetic.sub(other, input if alpha == 1 else input * alpha)


def div(input: Any, other: Any, *, rounding_mode: str | None = None, out: Any = None) -> Any:
    """input / other; ``rounding_mode`` "floor" rounds down (keeping integers), "trunc" towards 0."""
    if not isinstance(input, Variable) and not isinstance(other, Variable):
        need_tensor(input, "div")
    if not isinstance(other, Variable):
        other = _operand(other, "div")
    if rounding_mode is None:
        op = arithmetic.div
    elif rounding_mode in ("floor", "trunc"):
        op = arithmetic.floor_divide if rounding_mode == "floor" else arithmetic.trunc_divide
    else:
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    return op(input, other) if out is None else into(out, op(input, other), "div")


def float_power(input: Any, exponent: Any, *, out: Any = None) -> Any:
    """inputᵉˣᵖᵒⁿᵉⁿᵗ computed in float64."""
    x, y = (cast(t, dtypes.float64) if isinstance(t, Variable) else float(t) for t in (input, exponent))
    return arithmetic.pow(x, y) if out is None else into(out, arithmetic.pow(x, y), "float_power")


def round(input: Any, *, decimals: int = 0, out: Any = None) -> Any:
    """The nearest integer (or multiple of 10^−decimals); halves go to the even neighbour."""
    result = elementwise.round(need_tensor(input, "round"), decimals=decimals)
    return result if out is None else into(out, result, "round")


def clamp(input: Any, min: Any = None, max: Any = None, *, out: Any = None) -> Any:
    """Entries limited to [min, max] (numbers or tensors, either may be None).

    >>> import chainrule as torch
    >>> torch.clamp(torch.tensor([-2.0, 0.5, 2.0]), min=-1, max=1)
    tensor([-1.0000,  0.5000,  1.0000])
    """
    x = need_tensor(input, "clamp")
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if isinstance(min, Variable) or isinstance(max, Variable):
        low, high = (v if v is None or isinstance(v, Variable) else wrap(np.asarray(v)) for v in (min, max))
        result = compare.clamp_between(x, low, high)
    else:
        if x._array.dtype.kind in "biu" and (isinstance(min, float) or isinstance(max, float)):
            x = cast(x, dtypes.default.numpy)
        if min != min or max != max:
            result = x * float("nan")
        else:
            result = compare.clamp(x, min=min, max=max)
    return result if out is None else into(out, result, "clamp")


def clamp_min(input: Any, min: Any, *, out: Any = None) -> Any:
    """Entries below ``min`` raised to it."""
    return clamp(input, min, None, out=out)


def clamp_max(input: Any, max: Any, *, out: Any = None) -> Any:
    """Entries above ``max`` lowered to it."""
    return clamp(input, None, max, out=out)


def where(condition: Any, input: Any = None, other: Any = None, *, out: Any = None) -> Any:
    """Entries of ``input`` where the condition holds, of ``other`` elsewhere; with one argument, the indices."""
    c = need_tensor(condition, "where")
    if input is None and other is None:
        return c.nonzero(as_tuple=True)
    if c._array.dtype.kind != "b":
        if c._array.dtype != np.uint8:
            raise RuntimeError(
                f"where expected condition to be a boolean tensor, but got a tensor with dtype {_LONG[c.dtype.name]}"
            )
        c = cast(c, dtypes.bool)
    x, y = number_or_tensor(input), number_or_tensor(other)
    if isinstance(x, Variable) and isinstance(y, Variable) and x._array.dtype is y._array.dtype:
        result = compare.where(c, x, y)
        return result if out is None else into(out, result, "where")
    kinds = [v._array if isinstance(v, Variable) else v for v in (x, y)]
    if not isinstance(x, Variable) and not isinstance(y, Variable):
        d = dtypes.result_dtype(*kinds)
        x, y = wrap(np.asarray(x, d)), wrap(np.asarray(y, d))
    else:
        d = dtypes.result_dtype(*kinds)
        x = cast(x, d) if isinstance(x, Variable) else d.type(x).item()
        y = cast(y, d) if isinstance(y, Variable) else d.type(y).item()
    result = compare.where(c, x, y)
    return result if out is None else into(out, result, "where")


_LONG = dtypes.TORCH_NAMES


def _where_method(self: Any, condition: Any, other: Any) -> Any:
    """This tensor's entries where the condition holds, those of ``other`` elsewhere."""
    return where(condition, self, other)


def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """A value (a number or 0-d tensor) in place of the entries where the mask holds."""
    x, m = need_tensor(input, "masked_fill"), need_tensor(mask, "masked_fill", 2, "mask")
    if m._array.dtype.kind != "b":
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {_C[m.dtype.name]}")
    if isinstance(value, Variable):
        if value._array.ndim:
            raise RuntimeError(
                "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                f"{value._array.ndim} dimension(s)."
            )
        value = cast(value, x._array.dtype)
    elif x._array.dtype.kind == "b":
        value = bool(value)
    elif x._array.dtype not in FLOATS and isinstance(value, float):
        value = int(value)
    return compare.masked_fill(x, m, value)


_C = {"float16": "c10::Half", "float32": "float", "float64": "double", "int64": "long int", "int32": "int",
      "int16": "short int", "int8": "signed char", "uint8": "unsigned char", "bool": "bool"}  # fmt: skip


def nan_to_num(input: Any, nan: Any = None, posinf: Any = None, neginf: Any = None, *, out: Any = None) -> Any:
    """NaN and ±∞ replaced by numbers: 0 and the dtype's largest unless given."""
    x = need_tensor(input, "nan_to_num")
    result = elementwise.nan_to_num(x, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)
    return result if out is None else into(out, result, "nan_to_num")


def lerp(input: Any, end: Any, weight: Any, *, out: Any = None) -> Any:
    """input + weight · (end − input)."""
    x = need_tensor(input, "lerp")
    if isinstance(end, Variable) and end._array.dtype is not x._array.dtype:
        raise RuntimeError(f"expected dtype {x.dtype.name} for `end` but got dtype {end.dtype.name}")
    if x._array.dtype not in FLOATS:
        raise NotImplementedError(f"\"lerp_kernel_scalar\" not implemented for '{_LONG[x.dtype.name]}'")
    result = arithmetic.lerp(x, end, float(weight) if isinstance(weight, int) else weight)
    return result if out is None else into(out, result, "lerp")


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1, out: Any = None) -> Any:
    """input + value · tensor1 · tensor2."""
    product = tensor1 * tensor2
    if input.dtype is product.dtype is dtypes.bool:
        raise NotImplementedError("\"addcmul_cpu_out\" not implemented for 'Bool'")
    result = input + (product if value == 1 else product * value)
    return result if out is None else into(out, result, "addcmul")


def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1, out: Any = None) -> Any:
    """input + value · tensor1 / tensor2."""
    if tensor1.dtype not in _FLOAT_DTYPES and tensor2.dtype not in _FLOAT_DTYPES:
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform a "
            "true division of tensor1 and tensor2. The historic addcdiv behavior can be implemented as (input + value "
            "* torch.trunc(tensor1 / tensor2)).to(input.dtype) for integer inputs and as (input + value * tensor1 / "
            "tensor2) for float inputs. The future addcdiv behavior is just the latter implementation: (input + value "
            "* tensor1 / tensor2), for all dtypes."
        )
    quotient = tensor1 / tensor2
    result = input + (quotient if value == 1 else quotient * value)
    return result if out is None else into(out, result, "addcdiv")


def logit(input: Any, eps: float | None = None, *, out: Any = None) -> Any:
    """log(x / (1 − x)), x limited to [eps, 1 − eps] if eps is given."""
    result = registry["logit"].call(need_tensor(input, "logit"), eps=eps)
    return result if out is None else into(out, result, "logit")


def polygamma(n: int, input: Any, *, out: Any = None) -> Any:
    """The n-th derivative of digamma."""
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    result = special.digamma(input) if n == 0 else special.polygamma(input, n=n)
    return result if out is None else into(out, result, "polygamma")


def _polygamma_of(input: Any, n: int) -> Any:
    return polygamma(n, input)


def frexp(input: Any, *, out: Any = None) -> Any:
    """m and k with input = m · 2ᵏ and ½ ≤ |m| < 1 (both 0 for 0).

    >>> import chainrule as torch
    >>> torch.frexp(torch.tensor([3.0])).mantissa
    tensor([0.7500])
    """
    if need_tensor(input, "frexp")._array.dtype not in FLOATS:
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    result = Frexp(*arithmetic.frexp(input))
    return result if out is None else into(out, result, "frexp")


Frexp = named("frexp", "mantissa", "exponent")


def mvlgamma(input: Any, p: int, *, out: Any = None) -> Any:
    """The logarithm of the multivariate gamma function of dimension p."""
    if out is not None:
        return into(out, mvlgamma(input, p), "mvlgamma")
    import math

    total = p * (p - 1) / 4 * math.log(math.pi)
    for j in range(p):
        total = special.lgamma(input - j / 2) + total
    return total


def dist(input: Any, other: Any, p: float = 2) -> Any:
    """The p-norm of input − other."""
    return registry["norm"].call(input - other, p=float(p), dim=None, keepdim=False)


def equal(input: Any, other: Any) -> bool:
    """Whether two tensors have the same shape and entries."""
    x, y = need_tensor(input, "equal")._array, need_tensor(other, "equal", 2, "other")._array
    values_read((input, other), "equal")
    return x.shape == y.shape and bool((x == y).all())


def isclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Any:
    """|input − other| ≤ atol + rtol · |other|, entry by entry."""
    x, y = need_tensor(input, "isclose")._array, need_tensor(other, "isclose", 2, "other")._array
    values_read((input, other), "isclose")
    if x.dtype is not y.dtype:
        raise RuntimeError(f"{_LONG[input.dtype.name]} did not match {_LONG[other.dtype.name]}")
    close = x == y
    if equal_nan and x.dtype.kind == "f":
        close = close | (np.isnan(x) & np.isnan(y))
    if x.dtype.kind != "b":
        f, g = (a if a.dtype.kind == "f" else a.astype(np.float64) for a in (x, y))
        difference = np.abs(f - g)
        close = close | (np.isfinite(difference) & (difference <= atol + np.abs(rtol * g)))
    return wrap(np.asarray(close))


def allclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all entries are close."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._array.all())


for _alias, _target in _ALIASES.items():
    globals()[_alias] = globals()[_target]

_MORE = (
    "add", "sub", "div", "float_power", "round", "clamp", "clamp_min", "clamp_max", "masked_fill", "nan_to_num", "lerp",
    "addcmul", "addcdiv", "frexp", "logit", "mvlgamma", "dist", "equal", "isclose", "allclose", "positive",
    "conj", "resolve_conj", "resolve_neg", "isreal", "is_nonzero", "angle",
)  # fmt: skip
METHODS = (*_BINARY, *_MORE, *_ALIASES)
INPLACE = tuple(
    n for n in (*_TABLE, *_MORE, *_ALIASES)
    if n not in ("signbit", "frexp", "dist", "equal", "isclose", "allclose", "positive", "conj", "resolve_conj",
                 "resolve_neg", "isreal", "is_nonzero", "angle", "logaddexp", "logaddexp2", "maximum", "minimum",
                 "fmax", "fmin")
)  # fmt: skip
__all__ = [*_TABLE, *_PREDICATES, *_MORE, *_ALIASES, "where", "rsub", "polygamma"]
# torch.exp_(x) is x.exp_()
for _name in (*_UNARY, *_ALIASES, "clamp", "clamp_min", "clamp_max", "round", "nan_to_num", "logit"):
    if _name in INPLACE:
        globals()[_name + "_"] = make_inplace(globals()[_name])
        __all__.append(_name + "_")


def _reflected(op: Any) -> Any:
    def operator(self: Any, other: Any) -> Any:
        return op(other, self)

    return operator


def _inplace_operator(op: Any) -> Any:
    return make_inplace(op)


def _invert(self: Any) -> Any:
    if self._array.dtype in FLOATS:
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return compare.bitwise_not(self)


_OPERATORS = {
    "add": arithmetic.add, "sub": arithmetic.sub, "mul": arithmetic.mul, "truediv": arithmetic.div,
    "floordiv": arithmetic.floor_divide, "mod": arithmetic.remainder, "pow": arithmetic.pow,
    "and": compare.bitwise_and, "or": compare.bitwise_or, "xor": compare.bitwise_xor,
    "lshift": compare.bitwise_left_shift, "rshift": compare.bitwise_right_shift,
}  # fmt: skip
_COMMUTE = ("add", "mul", "and", "or", "xor")
# Operators, and methods without arguments, are the ops themselves: nothing stands between `x * y` and its dispatch.
OPERATORS = {
    **{f"__{n}__": op for n, op in _OPERATORS.items()},
    **{f"__r{n}__": op if n in _COMMUTE else _reflected(op) for n, op in _OPERATORS.items()},
    **{f"__i{n}__": _inplace_operator(op) for n, op in _OPERATORS.items()},
    "__neg__": arithmetic.neg, "__pos__": positive, "__abs__": elementwise.abs,
    "__invert__": _invert,
    **_UNARY, **_PREDICATES,
    "where": _where_method,
    "polygamma": lambda self, n: polygamma(n, self),
    "polygamma_": make_inplace(_polygamma_of),
}  # fmt: skip
