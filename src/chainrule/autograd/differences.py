"""``gradcheck`` and ``gradgradcheck`` with PyTorch's signature and criterion.

The criterion is a fixed step and fixed tolerances. ``chainrule.check`` is the better instrument: it estimates its own
error and says which mistake it sees.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dtypes import FLOATS
from ..core.untyped import LIST, TUPLE
from ..core.variable import Variable, wrap
from .api import grad
from .modes import enable_grad, no_grad

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """Numerical and analytical derivatives differ."""


def _whole(x: Any) -> tuple[Any, ...]:
    """One tensor or several, as a tuple."""
    return tuple(x) if isinstance(x, (TUPLE, LIST)) else (x,)


def _outputs(func: Callable[..., Any], inputs: tuple[Any, ...]) -> list[Any]:
    return [o for o in _whole(func(*inputs)) if isinstance(o, Variable) and o._array.dtype in FLOATS]


def _numeric(func: Callable[..., Any], inputs: tuple[Any, ...], t: Any, eps: float) -> list[Any]:
    """Central differences by every entry of ``t``: for each output a (t.numel, output.numel) array."""
    array = t._array
    columns: list[list[Any]] = []
    with no_grad():
        for i in np.ndindex(array.shape):
            before = array[i]
            array[i] = before + eps
            up = [o._array.copy() for o in _outputs(func, inputs)]
            array[i] = before - eps
            down = [o._array.copy() for o in _outputs(func, inputs)]
            array[i] = before
            columns.append([((a - b) / (2 * eps)).reshape(-1) for a, b in zip(up, down, strict=True)])
    count = len(columns[0]) if columns else len(_outputs(func, inputs))
    return [np.array([c[k] for c in columns]) for k in range(count)]


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of ``func`` agree with central differences: |a − n| ≤ atol + rtol · |n| for every entry.

    Raises:
        GradcheckError: if they do not (and ``raise_exception``), with both Jacobians.
        ValueError: if no input requires grad.
    """
    whole = _whole(inputs)
    wanted = [t for t in whole if isinstance(t, Variable) and t.requires_grad]
    if not wanted:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them have "
            "requires_grad=True."
        )
    for i, t in enumerate(whole):
        if isinstance(t, Variable) and t.requires_grad and t._array.dtype != np.float64:
            warnings.warn(
                f"Input #{i} requires gradient and is not a double precision floating point or complex. This check "
                "will likely fail if all the inputs are not of double precision floating point or complex. ",
                stacklevel=2,
            )
    try:
        _compare(func, whole, wanted, eps, atol, rtol, nondet_tol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _compare(
    func: Callable[..., Any], inputs: tuple[Any, ...], wanted: list[Any], eps: float, atol: float, rtol: float,
    nondet_tol: float,
) -> None:  # fmt: skip
    outputs = _outputs(func, inputs)
    numeric = [_numeric(func, inputs, t, eps) for t in wanted]
    for k, out in enumerate(outputs):
        n = out._array.size
        analytic = [np.zeros((t._array.size, n)) for t in wanted]
        for e in range(n):
            if not out.requires_grad:
                break
            unit = np.zeros(n, out._array.dtype)
            unit[e] = 1
            seed = [wrap(unit.reshape(out._array.shape))]
            found = grad([out], wanted, seed, retain_graph=True, allow_unused=True)
            again = grad([out], wanted, seed, retain_graph=True, allow_unused=True)
            for i, (g, h) in enumerate(zip(found, again, strict=True)):
                if g is None:
                    continue
                if h is None or np.abs(g._array - h._array).max(initial=0.0) > nondet_tol:
                    raise GradcheckError("Backward is not reentrant, i.e., running backward with same input and "
                                         "grad_output multiple times gives different values, although analytical "
                                         "gradient matches numerical gradient.")  # fmt: skip
                analytic[i][:, e] = g._array.reshape(-1)
        for i, a in enumerate(analytic):
            b = numeric[i][k] if numeric[i] else np.zeros_like(a)
            if a.size and not np.allclose(a, b.reshape(a.shape), rtol, atol):
                raise GradcheckError(
                    f"Jacobian mismatch for output {k} with respect to input {i},\nnumerical:{b}\nanalytical:{a}\n"
                )


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """``gradcheck`` of the gradient of ``func``: its second derivatives."""
    whole = _whole(inputs)
    outputs = _outputs(func, whole)
    if grad_outputs is None:
        draw: Any = np.random.default_rng(0).normal
        seeds = [wrap(draw(size=o._array.shape).astype(o._array.dtype)).requires_grad_() for o in outputs]
    else:
        seeds = list(_whole(grad_outputs))
    n = len(whole)

    def gradient(*args: Any) -> tuple[Any, ...]:
        xs, gs = args[:n], args[n:]
        wanted = [t for t in xs if isinstance(t, Variable) and t.requires_grad]
        with enable_grad():
            kept = [(o, g) for o, g in zip(_outputs(func, xs), gs, strict=True) if o.requires_grad]
            found = grad([o for o, _ in kept], wanted, [g for _, g in kept], create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradient, (*whole, *seeds), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
        nondet_tol=nondet_tol,
    )  # fmt: skip
