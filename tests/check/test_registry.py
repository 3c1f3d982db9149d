"""Every op of the library, over its own samples: the check finds its first and second derivatives right."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import chainrule
import chainrule.linalg
from chainrule.check.nodes import applied, op_problem
from chainrule.check.run import run
from chainrule.check.verdict import Verdict
from chainrule.core.op import registry

# Functions of a symmetric matrix: no single entry can be moved, which is how the check works.
SYMMETRIC = {"cholesky", "eigh"}
OPS = sorted(n for n, op in registry.items() if op.differentiable and op.samples is not None and n not in SYMMETRIC)


@pytest.mark.parametrize("name", sorted(SYMMETRIC))
def test_functions_of_symmetric_matrices_are_right_along_them(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 3))
    x = chainrule.tensor(x @ x.T + 3 * np.eye(3), requires_grad=True)

    def f(x):
        y = registry[name].call((x + x.mT) / 2)
        y = y if isinstance(y, chainrule.Tensor) else y[0]  # eigh: the eigenvalues; its vectors have no fixed sign
        return (y * chainrule.arange(y.numel(), dtype=y.dtype).reshape(y.shape)).sum()

    assert chainrule.check(f, (x,)).ok


def problems(name, order, limit):
    op = registry[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    made = 0
    for call in op.samples(rng):
        problem = op_problem(applied(op, tuple(call.args), dict(call.params)), order=order)
        if problem is not None and sum(v.size for v in problem.point.values()) <= 400:
            yield call, problem
            made += 1
            if made == limit:
                return


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", OPS)
def test_no_op_is_accused(name, order):
    count = 0
    for call, problem in problems(name, order, 6):
        report = run(problem, diagnose=False, progress=False)
        assert report.verdict is Verdict.PASS, f"{name} {[np.shape(a) for a in call.args]} {call.params}\n{report}"
        count += 1
    assert count or name in _NOTHING_TO_MOVE, f"{name}: no sample has an input that a gradient flows to"


_NOTHING_TO_MOVE: set[str] = set()


SCALED = ["exp", "log", "tanh", "sigmoid", "mul", "matmul", "softmax", "sum", "mean", "sqrt", "div"]


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
@pytest.mark.parametrize("name", [n for n in SCALED if n in registry])
def test_no_op_is_accused_on_ill_scaled_inputs(name, scale):
    op = registry[name]
    rng = np.random.default_rng(3)
    for call in list(op.samples(rng))[:4]:
        args = tuple(a * scale if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in call.args)
        with np.errstate(all="ignore"):
            problem = op_problem(applied(op, args, dict(call.params)))
            finite = problem is not None and all(np.all(np.isfinite(g)) for g in problem.given.values())
        if problem is None or not finite:
            continue  # overflow is the function's own affair
        report = run(problem, diagnose=False, progress=False)
        assert report.verdict is not Verdict.FAIL, f"{name} × {scale:g}\n{report}"
