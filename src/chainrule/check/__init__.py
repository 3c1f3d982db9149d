"""Is this gradient right? If not: which mistake is it, where, and how is it mended?

    report = chainrule.check(loss_fn, params)               # a function of tensors or arrays
    report = chainrule.check(f, x, grad=my_backward)        # a gradient written by hand, in NumPy
    report = chainrule.check.steps(forward, backward)       # every line of a backward pass, marked

The module itself is callable.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from .diagnosis.hypothesis import Hypothesis, Line
from .report import Report, WrongGradientError
from .structure import WrongGradient
from .verdict import Verdict

__all__ = ["check", "steps", "Report", "Verdict", "Hypothesis", "Line", "WrongGradient", "WrongGradientError"]


def check(
    f: Any,
    inputs: Any = None,
    grad: Any = None,
    *,
    loss: Any = None,
    cotangent: Any = None,
    data: Any = None,
    full: bool = False,
    order: int = 1,
    seed: int = 0,
    progress: bool | None = None,
) -> Report:
    """Compare a gradient with the numeric one, and diagnose it when it is wrong.

    Args:
        f: the function whose gradient is checked, returning the loss (one number; the first item of a tuple counts).
            Without ``grad``: a function of chainrule tensors, an ``nn.Module``, an ``autograd.Function``, or one of
            PyTorch's, or a function of PyTorch tensors or JAX arrays.
        inputs: the point: an array, a number, a list of numbers, a tuple (passed as separate arguments, or as one if f
            takes only one), or a dict of arrays (passed as keyword arguments if f's parameters have those names, else
            as one dict). Nested tuples and dicts are allowed.
        grad: the gradient written by hand: a function called as f is, returning gradients in the structure of
            ``inputs`` (a dict's keys may be 'W1', 'dW1', 'grad_W1', 'dL_dW1' …), or those gradients themselves.
        loss: for modules: what makes one number of the module's output.
        cotangent: weights for the entries of an output that is not one number; "random" for random ones.
        data: further arguments for f (and grad, if it takes them) that are not differentiated.
        full: check every entry. Otherwise small arrays are checked wholly and large ones by random directions over all
            entries and a sample of single ones, chosen with ``seed``.
        order: 2 checks second derivatives (of functions that chainrule, PyTorch or JAX differentiates).
        progress: show a bar when it takes more than two seconds; by default if stderr is a terminal.

    Returns:
        A ``Report``: ``.verdict`` (PASS, FAIL, INCONCLUSIVE), ``.mistakes``, ``.hypotheses``, ``.raise_if_wrong()``.

    Raises:
        UsageError: f raises, returns NaN or no single number; an input is not a number.
        WrongGradient: the gradient has a wrong shape or lacks a key.

    >>> import numpy as np
    >>> print(check(lambda x: np.sum(x**2), [2, 3], grad=lambda x: 2 * x).verdict)
    PASS
    >>> check(lambda x: np.sum(x**2), [2.0, 3.0], grad=lambda x: -2 * x).mistakes[0].kind
    'sign'
    """
    from .dispatch import problem_of
    from .run import run

    if order == 2:
        first = problem_of(f, inputs, grad, loss=loss, cotangent=cotangent, data=data, order=1, seed=seed)
        report = run(first, full=full, seed=seed, progress=progress)
        if not report.ok:  # second derivatives of a wrong gradient mean nothing
            return report
    problem = problem_of(f, inputs, grad, loss=loss, cotangent=cotangent, data=data, order=order, seed=seed)
    return run(problem, full=full, seed=seed, progress=progress)


def steps(forward: Any, backward: Any, *args: Any, **options: Any) -> Any:
    """Mark a backward pass line by line, each given the student's own upstream value. See ``check.marking.steps``."""
    from .marking import steps as mark

    return mark(forward, backward, *args, **options)


class _CallableModule(types.ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Report:
        return check(*args, **options)


_CallableModule.__call__.__doc__ = check.__doc__
sys.modules[__name__].__class__ = _CallableModule
