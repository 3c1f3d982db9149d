"""torch.linalg: values, gradients and second derivatives against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule

CALLS = """
L.inv(a)|L.inv(b)|L.det(a)|L.det(b)|L.slogdet(a)[1]|L.slogdet(b)[0]|L.solve(a, v)|L.solve(a, m)|L.solve(b, m)
L.solve(b, v.expand(2, 3))|L.solve(a, m.mT, left=False)|L.cholesky(p)|L.cholesky(p, upper=True)|L.qr(a)[0]
L.qr(m)[1]|L.svdvals(m)|L.svd(m, full_matrices=False)[0].abs()|L.svd(m.mT, full_matrices=False)[2].abs()
L.svd(a)[0].abs()|L.eigvalsh(p)|L.eigh(p)[1].abs()|L.pinv(m)|L.pinv(m.mT)|L.lstsq(m, v).solution
L.matrix_power(a, 3)|L.matrix_power(a, -2)|L.matrix_power(a, 0)|L.multi_dot([a, m, m.mT])|L.norm(a)|L.norm(a, 1)
L.norm(v, 3)|L.norm(a, "fro")|L.norm(a, "nuc")|L.norm(a, 2)|L.vector_norm(b, 2, (0, 2))
L.vector_norm(v, float("inf"))|L.vector_norm(v, 0)|L.matrix_norm(b)|L.matrix_norm(b, -1, keepdim=True)
L.matrix_norm(m, float("inf"))|L.matrix_rank(m)|L.matrix_rank(b)|L.cross(v, a)|L.cross(a, a.mT, dim=0)
L.vecdot(a, a)|L.diagonal(b)|L.cond(a)|L.solve_triangular(p, m, upper=False)
L.solve_triangular(a, m, upper=True, unitriangular=True)|L.vander(v)|L.inv(m)|L.inv(v)|L.det(m)|L.cholesky(-p)
L.inv(a * 0)|L.solve(a * 0, v)|L.solve(a, v[:2])|torch.norm(a, "nuc")|torch.norm(a, 2, 1)
""".replace("\n", "|").strip("|").split("|")  # fmt: skip


def evaluate(lib, source):
    rng = np.random.default_rng(3)
    a, m, v = rng.normal(size=(3, 3)) + np.eye(3), rng.normal(size=(3, 2)), rng.normal(size=3)
    b = rng.normal(size=(2, 3, 3)) + np.eye(3)
    leaves = {n: lib.tensor(x.tolist(), dtype=lib.float64, requires_grad=True) for n, x in
              {"a": a, "m": m, "v": v, "b": b}.items()}  # fmt: skip
    names = {**leaves, "L": lib.linalg, "torch": lib, "p": leaves["a"] @ leaves["a"].mT + lib.eye(3, dtype=lib.float64)}
    try:
        out = eval(source, names)
    except RuntimeError as error:
        return "error", str(error).split("\n")[0].split("(")[0][:40]
    value = out.detach().numpy().copy()
    if not out.requires_grad:
        return value, [None] * 4, [None] * 4
    weights = (lib.arange(out.numel(), dtype=lib.float64) + 1).reshape(out.shape)
    first = lib.autograd.grad((out * out * weights).sum(), leaves.values(), create_graph=True, allow_unused=True)
    again = sum(((g * g).sum() for g in first if g is not None), lib.zeros(()))
    second = lib.autograd.grad(again, leaves.values(), allow_unused=True) if again.requires_grad else [None] * 4
    return value, *([None if g is None else g.detach().numpy().copy() for g in gs] for gs in (first, second))


@pytest.mark.parametrize("source", CALLS)
def test_linalg(source):
    ours, theirs = evaluate(chainrule, source), evaluate(torch, source)
    if isinstance(ours[0], str) or isinstance(theirs[0], str):
        assert ours == theirs
        return
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-10, atol=1e-11)
    for which in (1, 2):
        for x, y in zip(ours[which], theirs[which], strict=True):
            if x is None or y is None:
                assert x is None or np.abs(x).max() < 1e-10
                assert y is None or np.abs(y).max() < 1e-10
            else:
                # the scale of the derivative: second derivatives of an inverse are large, and rounding with them
                scale = np.abs(y).max() + 1
                np.testing.assert_allclose(x / scale, y / scale, rtol=0, atol=1e-10)
