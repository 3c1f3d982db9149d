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
L.lu_factor(a)[0]|L.lu_factor(m)[0]|L.lu_factor(m.mT)[0]|L.lu_factor(b)[0]|L.lu(a)[0]|L.lu(a)[1]|L.lu(m)[1]
L.lu(m.mT)[2]
L.lu(b)[2]|L.lu_factor_ex(b)[1]|L.lu_factor_ex(a * 0)[2]|torch.lu(a)[0]|torch.lu_unpack(*torch.lu(b))[1]
torch.lu_unpack(*torch.lu(m))[0]|L.lu_solve(*L.lu_factor(a), m)|L.lu_solve(*L.lu_factor(b), m)|L.lu(a, pivot=False)
L.lu_solve(*L.lu_factor(a), m.mT, left=False)|L.lu_solve(*L.lu_factor(a), m, adjoint=True)
torch.lu_solve(m, *torch.lu(a))
L.lu_factor(a * 0)|L.cholesky_ex(p)[0]|L.cholesky_ex(p, upper=True)[0]|L.cholesky_ex(-p)[1]|torch.cholesky(p)
L.cholesky_ex(-p, check_errors=True)|torch.cholesky_solve(m, L.cholesky(p))|torch.cholesky_inverse(L.cholesky(p))
torch.cholesky_solve(m, L.cholesky(p).mT, upper=True)|torch.cholesky_solve(m.expand(2, 3, 2), L.cholesky(p))
L.solve_ex(a, m)[0]|L.solve_ex(b, m)[1]|L.solve_ex(a * 0, m)[1]|L.solve_ex(a * 0, m, check_errors=True)|L.inv_ex(b)[0]
L.inv_ex(a * 0)[1]|L.inv_ex(a * 0, check_errors=True)|L.matrix_exp(a)|L.matrix_exp(b)|torch.matrix_exp(a * 0)
L.matrix_exp(m)|L.matrix_exp(a[:0, :0])|L.householder_product(m * 0.5, v[:2])|torch.orgqr(b, v.expand(2, 3))
torch.geqrf(m.detach())[0]|torch.geqrf(b.detach())[1]|torch.ormqr(m.detach(), v[:2].detach(), a)
L.ldl_factor(p.detach())[0]
torch.ormqr(m.detach(), v[:2].detach(), a.mT, left=False)|torch.ormqr(m.detach(), v[:2].detach(), a, transpose=True)
L.ldl_factor_ex(p.detach())[1]|L.ldl_factor(-p.detach())[0]|L.ldl_solve(*L.ldl_factor(p.detach()), m.detach())
L.tensorinv(b.reshape(2, 9)[:, :4].reshape(2, 2, 4)[:1].reshape(2, 2), ind=1)|L.tensorinv(m)|L.tensorinv(a, ind=0)
torch.triangular_solve(m, a)[0]|torch.triangular_solve(m, a, upper=False)[0]
torch.triangular_solve(m, a, transpose=True)[0]
torch.triangular_solve(m, a, unitriangular=True)[0]|L.solve_triangular(b, m, upper=False)|L.pinv(p, hermitian=True)
L.solve_triangular(a, m.mT, upper=True, left=False)|L.solve_triangular(a, v, upper=True)
L.matrix_rank(p, hermitian=True)
L.lstsq(m, v, driver="gelsd")[1]|L.lstsq(m, a, driver="gels")[0]|L.lstsq(m, a, driver="gelss")[3]|L.lstsq(m, v)[2]
L.lstsq(m, a, driver="no")|L.lstsq(m.mT, a[:2]).solution|L.pinv(m, atol=2.0)|L.pinv(b, rtol=0.5)
torch.svd(m)[1]|torch.svd(m, compute_uv=False)[1]|torch.qr(m)[1]|torch.nuclear_norm(m)|torch.frobenius_norm(m, 1)
torch.frobenius_norm(a, (0, 1), True)|torch.logdet(p)|torch.lobpcg(p, 1)[0]|torch.lobpcg(p, 1, largest=False)[0]
torch.lstsq(a, a)
torch.solve(a, a)|torch.symeig(a)|torch.matrix_rank(a)|L.eigh(p, "X")|L.svd(a, driver="gesvd")|L.inv(a.half())
L.inv(a.long())
L.matrix_norm(m, "nuc", keepdim=True)
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
        return "error", str(error).split("\n")[0].split("(")[0][:70]
    if not isinstance(out, lib.Tensor):
        return "what", str(type(out).__name__)
    value = out.detach().numpy().copy()
    if not out.requires_grad:
        return value, [None] * 4, [None] * 4
    weights = (lib.arange(out.numel(), dtype=lib.float64) + 1).reshape(out.shape)
    first = lib.autograd.grad((out * out * weights).sum(), leaves.values(), create_graph=True, allow_unused=True)
    again = sum(((g * g).sum() for g in first if g is not None), lib.zeros(()))
    second = lib.autograd.grad(again, leaves.values(), allow_unused=True) if again.requires_grad else [None] * 4
    return value, *([None if g is None else g.detach().numpy().copy() for g in gs] for gs in (first, second))


@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning")
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
                # the scale of the derivative: second derivatives of an inverse are large, and rounding with them; those
                # of LU go through four triangular systems, each of which multiplies it by a condition number of 20
                scale = np.abs(y).max() + 1
                # (PyTorch's matrix_exp is a Taylor polynomial of degree 18, SciPy's a rational approximation.)
                atol = 1e-9 if which == 2 and ("lu" in source or "matrix_exp" in source) else 1e-10
                np.testing.assert_allclose(x / scale, y / scale, rtol=0, atol=atol)
