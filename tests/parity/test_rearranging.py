"""Shapes, joining, indexing, scattering, products, sorting, linear algebra: the same expression in chainrule and in
PyTorch gives the same value, dtype, gradient and second derivative, or the same kind of error with the same words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule

LAYOUT = """
a.reshape(4, 3)|a.reshape(-1)|a.reshape((2, 6))|a.reshape(2, -1)|e.reshape(0)|s.reshape(1, 1)|a.view(12)
a.view(-1, 2)|a.t().reshape(12)|a.t().view(12)|a.reshape(5)|a.reshape(-1, -1)|a.flatten()|b.flatten(1)
b.flatten(0, 1)|s.flatten()|b.flatten(2, 1)|b.unflatten(2, (2, 2))|b.unflatten(-1, (-1, 2))|b.unflatten(2, (3, 2))
a.ravel()|a.T|a.mT|b.mT|v.t()|b.transpose(0, 2)|b.transpose(-1, -2)|b.transpose(0, 5)|torch.swapaxes(b, 0, 1)
b.permute(2, 0, 1)|b.permute((0, 2, 1))|b.permute(0, 1)|b.permute(0, 0, 1)|b.movedim(0, 2)|b.movedim((0, 1), (2, 0))
torch.moveaxis(b, -1, 0)|b.movedim((0, 0), (1, 2))|a.squeeze()|a[:1].squeeze(0)|a[:1].squeeze()
a[:1, :, None].squeeze((0, 2))|a.squeeze(1)|a.squeeze(7)|a.unsqueeze(0)|a.unsqueeze(-1)|a.unsqueeze(5)
s.unsqueeze(0)|v.expand(2, 4)|v.expand(-1)|v.expand(2, -1)|v.expand(-1, 4)|v.expand(3)|s.expand(2, 3)|a.expand(4)
v.expand_as(a)|torch.broadcast_to(v, (3, 4))|v.repeat(2)|v.repeat(2, 3)|a.repeat(2)|a.repeat(1, 2)|s.repeat(3)
v.repeat(0)|torch.tile(a, (2,))|a.tile(2, 1)|v.repeat_interleave(2)|a.repeat_interleave(2, 1)
a.repeat_interleave(torch.tensor([1, 0, 2]), 0)|a.repeat_interleave(torch.tensor([1, 2]), 0)|a.flip(0)|a.flip(0, 1)
a.flip((-1,))|a.flip(0, 0)|a.fliplr()|a.flipud()|v.fliplr()|a.roll(1)|a.roll(2, 1)|a.roll((1, -1), (0, 1))
a.roll((1, 2), 0)|a.rot90()|a.rot90(2)|a.rot90(-1, (1, 0))|a.rot90(1, (0, 0))|a.tril()|a.triu(1)|b.tril(-1)
a.triu(-7)|v.tril()|torch.tril_indices(3, 4)|torch.triu_indices(4, 3, 1)|a.diagonal()|b.diagonal(1, 0, 2)
a.diagonal(0, 1, 0)|a.diagonal(-2)|a.diagonal(9)|v.diagonal()|v.diag()|v.diag(1)|a.diag()|a.diag(-1)|b.diag()
torch.diag_embed(a)|torch.diag_embed(a, 1, 0, 2)|torch.diag_embed(v, -1)|torch.diagflat(a)|a.trace()|b.trace()
v.unfold(0, 2, 1)|a.unfold(1, 2, 2)|a.unfold(0, 5, 1)|a.unfold(0, 1, 0)|torch.atleast_2d(v)|torch.atleast_3d(v)
torch.atleast_3d(a)|torch.atleast_1d(s)|e.t()|e.flip(0)|torch.broadcast_tensors(v, a)[0]|a.narrow(1, 1, 2)
a.narrow(0, -1, 1)|a.narrow(0, 2, 2)|a.select(1, -1)|a.select(0, 3)|s.select(0, 0)|a.contiguous()|a.t().contiguous()
a.clone()|a.view_as(a.reshape(2, 6))|a.reshape_as(a.t())|a.adjoint()|v.adjoint()|i.reshape(2, 2)
""".replace("\n", "|").strip("|").split("|")  # fmt: skip

JOINING = """
torch.cat([a, a])|torch.cat((a, a), 1)|torch.cat([a, a.t()], 1)|torch.cat([v, torch.tensor([])])
torch.cat([a, i.reshape(1, 4)])|torch.cat([a, v])|torch.cat([])|torch.cat([s, s])|torch.cat([a], -1)
torch.cat([a, a], 2)|torch.cat([e, e], 1)|torch.concat([v, v])|torch.cat([v[None], a], dim=-2)|torch.stack([v, v])
torch.stack([v, v], 1)|torch.stack([v, v], -1)|torch.stack([v, v[:2]])|torch.stack([s, s])|torch.stack([v, v], 3)
torch.stack([v, i])|torch.hstack([v, v])|torch.hstack([a, a])|torch.vstack([v, a])|torch.dstack([a, a])
torch.column_stack([v, a.t()])|a.split(2)[1]|a.split(2, 1)[0]|a.split([1, 3], 1)[1]|a.split([1, 1], 1)|a.split(0)
a.split(-1)|torch.cat([p * k for k, p in enumerate(a.split(2, 1))], 1)
torch.stack([p * k for k, p in enumerate(a.unbind())])|a.chunk(2, 1)[1]|a.chunk(5)[2]|a.chunk(0)|s.chunk(2)
torch.tensor_split(a, 2)[1]|torch.tensor_split(a, (1, 3), 1)[1]|a.tensor_split(3, 1)[0]|a.hsplit(2)[1]
a.vsplit(3)[0]|a.hsplit(3)|b.dsplit(2)[0]|v.vsplit(2)|a.unbind(1)[2]|s.unbind()|torch.cat([a, 3])|torch.stack(3)
""".replace("\n", "|").strip("|").split("|")  # fmt: skip

INDEXING = """
a[0]|a[-1]|a[3]|a[1, 2]|a[1, -5]|a[:, 1]|a[..., 1]|a[None]|a[:, None, 1]|a[1:]|a[::2]|a[:, 1:4:2]|a[::-1]|a[5:]
a[-2:, :-1]|a[...]|a[..., None]|a[0, ..., 1]|a[..., 0, :]|b[0, :, 1:3]|b[..., 0]|b[None, ..., None]|s[None]|s[...]
s[0]|s[()]|v[0, 0]|a[True]|a[False]|a[torch.tensor([0, 2])]|a[torch.tensor([0, 0, -1])]|a[[0, 2]]|a[torch.tensor(1)]
a[torch.tensor([[0, 1], [2, 0]])]|a[torch.tensor([3])]|a[:, torch.tensor([1, 1])]
a[torch.tensor([0, 1]), torch.tensor([2, 2])]|a[[0, 1], [2, 3]]|a[[0, 1], :]
a[torch.tensor([[0], [1]]), torch.tensor([1, 2])]|b[torch.tensor([0, 1]), :, torch.tensor([0, 3])]
b[:, torch.tensor([0, 1]), torch.tensor([0, 3])]|b[0, :, torch.tensor([0, 3])]|b[torch.tensor([0, 1]), 1]
b[:, 0, torch.tensor([1])]|b[..., torch.tensor([0, 0])]|b[torch.tensor([1]), ..., None]|b[None, torch.tensor([1])]
b[:, torch.tensor([[0, 1]])]|b[0, None, torch.tensor([1, 2])]|b[1:, torch.tensor([0, 2]), ::2]
a[torch.tensor([0, 1]), torch.tensor([0, 1, 2])]|a[a > 0]|a[v > 0]|a[:, v > 0]|a[(a > 0)[:, 0]]
a[[True, False, True]]|b[a[:2, :3] > 0]|b[:, a[:, :4] > 0]|a[a[:2] > 0]|v[a > 0]
b[torch.tensor([True, False]), torch.tensor([0])]|a[torch.tensor([True, False, True]), 1:]
a[torch.tensor([True, True, False]), torch.tensor([0, 1])]|a[a > 9]|a[torch.tensor([], dtype=torch.int64)]|a[[]]
e[:, 0]|e[0:0]|a[1.5]|a[torch.tensor([0.5])]|a[torch.tensor([0], dtype=torch.int32)]|i[a[0] > 0]
i[torch.tensor([1, 1])]|a[np.array([0, 1])]|a[range(2)]|a[(0, 1)]|a[np.int64(1)]
a.index_select(0, torch.tensor([1, 1]))|a.index_select(1, torch.tensor([0, 3]))|a.index_select(0, torch.tensor([4]))
a.index_select(0, torch.tensor([[0]]))|s.index_select(0, torch.tensor([0, 0])[:1])
a.gather(1, torch.tensor([[0, 3], [1, 1], [2, 0]]))|a.gather(0, torch.tensor([[2, 0, 1, 1]]))
a.gather(1, torch.tensor([[4]]))|a.gather(0, torch.tensor([0]))|a.gather(1, torch.zeros(3, 0, dtype=torch.int64))
v.gather(0, torch.tensor([3, 3]))|s.gather(0, torch.tensor(0))
torch.take_along_dim(a, torch.tensor([[1], [0], [2]]), 1)|torch.take_along_dim(a, torch.tensor([1, 11]))
torch.take(a, torch.tensor([[0, 11], [5, -1]]))|torch.take(a, torch.tensor([12]))|a.masked_select(a > 0)
a.masked_select(v > 0)|torch.nonzero(a > 0)|(a > 0).nonzero(as_tuple=True)[1]|torch.argwhere(i > 1)|torch.nonzero(s)
torch.take_along_dim(a, a.argsort(1), 1)|b[0][1][2]|b[0, 1][..., 2:]
""".replace("\n", "|").strip("|").split("|")  # fmt: skip

ASSIGN = """
x[0] = 1.0|x[0] = v|x[:, 1] = 2|x[:, 1] = w[:, 0]|x[..., 0] = 0|x[1:, ::2] = w[1:, ::2]|x[None, 0] = v|x[1, 2] = s
x[1, 2] = w[0, 0]|x[:] = v|x[torch.tensor([0, 2])] = 5.0|x[torch.tensor([0, 2])] = v|x[torch.tensor([0, 2])] = w[:2]
x[[0, 1], [2, 3]] = v[:2]|x[:, torch.tensor([1, 0])] = w[:, :2]|x[x > 0] = 0.0|x[x > 0] = s|x[v > 0] = 1
x[:, v > 0] = w[:, :1]|x[w > 0.9] = v[:int((w > 0.9).sum())]|x[torch.tensor([True, False, True])] = w[:2]|x[0] = w
x[0:2] = v[:3]|x[5] = 1|x[torch.tensor([7])] = 1.0|x[torch.tensor([0, 1])] = v[:3]|x[1] = i
x[0, torch.tensor([1, 2])] = v[:2]|x[0] += v|x[:, 1] *= w[:, 1]|x[x > 0] += 1.0|x[torch.tensor([0, 2])] += w[:2]
x[0][1] = 3.0|x[1:][0] = v|x[[0]] = 1|x[0, 0] = True|x[...] = w
x.index_put_((torch.tensor([0, 0]), torch.tensor([1, 1])), v[:2], accumulate=True)
x.index_put_((torch.tensor([0, 2]),), v)|x.masked_fill_(x > 0, 2.0)|x.index_add_(0, torch.tensor([0, 0]), w[:2])
x.index_add_(1, torch.tensor([3]), w[:, :1], alpha=2)|x.index_copy_(0, torch.tensor([2]), w[:1])
x.index_fill_(1, torch.tensor([0, 2]), 3.0)|x.index_fill_(0, torch.tensor([0]), s)
x.index_add_(0, torch.tensor([0]), w)|x.index_add_(0, torch.tensor([9]), w[:1])
x.scatter_(1, torch.tensor([[0, 2], [1, 3], [2, 0]]), w[:, :2])|x.scatter_(0, torch.tensor([[1, 2, 0, 0]]), 4.0)
x.scatter_(1, torch.tensor([[5]]), 1.0)|x.scatter_add_(1, torch.tensor([[0, 0], [1, 3], [2, 0]]), w[:, :2])
x.scatter_reduce_(1, torch.tensor([[0, 0], [1, 3], [2, 0]]), w[:, :2], "sum")
x.scatter_reduce_(1, torch.tensor([[0, 0], [1, 3], [2, 0]]), w[:, :2], "prod")
x.scatter_reduce_(1, torch.tensor([[0, 0], [1, 3], [2, 0]]), w[:, :2], "mean")
x.scatter_reduce_(1, torch.tensor([[0, 0], [1, 3], [2, 0]]), w[:, :2], "amax")
x.scatter_reduce_(1, torch.tensor([[0, 0], [1, 3], [2, 0]]), w[:, :2], "amin", include_self=False)
x.scatter_reduce_(1, torch.tensor([[0, 0], [1, 3], [2, 0]]), w[:, :2], "mean", include_self=False)
x.masked_scatter_(x > 0, w)|x.masked_scatter_(x > -9, w[0])|x.put_(torch.tensor([0, 5]), v[:2])
x.put_(torch.tensor([0, 0]), v[:2], accumulate=True)|x.fill_diagonal_(3.0)|x.tril_()|x.diagonal().copy_(v[:3])
x.t().copy_(w.t())|x.copy_(v)|x.copy_(w[:2])|x.select(0, 1).fill_(2)|x.narrow(1, 0, 2).mul_(w[:, :2])|x.unbind(0)
x.transpose_(0, 1)|x.addmm_(w, torch.eye(4, dtype=torch.float64))
""".replace("\n", "|").strip("|").split("|")  # fmt: skip

# PyTorch has no derivative of these.
VALUES_ONLY = """
x.scatter_(1, torch.tensor([[0, 2]]), w)|x.scatter_add_(0, torch.tensor([[0, 0, 0, 0]]), w)
x.scatter_(1, torch.tensor([[0, 2]]), 2.0, reduce="multiply")
""".replace("\n", "|").strip("|").split("|")  # fmt: skip

PRODUCTS = """
a @ a.t()|a @ v|v @ a.t()|v @ v|b @ v|b @ a.t()|a @ b.mT|b @ b.mT|v @ b.mT|b[:, None] @ b.mT|a @ a|a @ v[:3]
v @ v[:2]|s @ v|v[:3] @ a.t()|b @ b|e @ a|a @ i.reshape(4, 1)|torch.mm(a, a.t())|torch.mm(a, v)|torch.bmm(b, b.mT)
torch.bmm(a, a)|torch.bmm(b, b)|torch.mv(a, v)|torch.mv(v, a)|torch.dot(v, v)|torch.dot(a, a)
torch.outer(v, a[:, 0])|torch.outer(a, v)|torch.inner(a, a)|torch.inner(v, v)|torch.inner(s, a)
torch.inner(a, v[:2])|torch.einsum("ij,kj->ik", a, a)|torch.einsum("ij,jk", a, a.t())|torch.einsum("ba", a)
torch.einsum("ii", a[:, :3])|torch.einsum("ii->i", a[:, :3])|torch.einsum("bij,bkj->bik", b, b)
torch.einsum("...ij,...kj->...ik", b, a)|torch.einsum("i,j->ij", v, v)|torch.einsum("ij->", a)
torch.einsum("ij->j", a)|torch.einsum("bij,j->bi", b, v)|torch.einsum("bij,j,bi->b", b, v, b[:, :, 0])
torch.einsum("i,i", v, v)|torch.einsum("ij,ij->ij", a, a)|torch.einsum("b...,b...->...", b, b)
torch.einsum("...a->...", b)|torch.einsum(a, [0, 1], a, [2, 1], [0, 2])|torch.einsum(a, [0, 1], v, [1])
torch.einsum(b, [..., 0], v, [0])|torch.einsum("ij,jk->ik", a, a)|torch.einsum("ij", v)|torch.einsum("ij->ik", a)
torch.einsum("i,j", v)|torch.einsum("i->ii", v)|torch.einsum("aij,aik->ajk", b, b)
torch.einsum("bhd,hde->be", b, torch.ones(3, 4, 2, dtype=torch.float64))|torch.einsum("iij->j", b[:, :2])
torch.einsum("ij,kl->", a, a)|torch.einsum("ij,kl->il", a, a)|torch.einsum(" i j , k j -> i k ", a, a)
torch.einsum("ij,ij", [a, a])|torch.tensordot(a, a.t(), 1)|torch.tensordot(b, b, 2)
torch.tensordot(b, b, ([0, 1], [0, 1]))|torch.tensordot(a, v, dims=([1], [0]))|torch.tensordot(a, a, 0)
torch.tensordot(a, v[:2], 1)|torch.addmm(v[:3], a, a.t())|torch.addmm(a[:, :3], a, a.t(), beta=2, alpha=3)
torch.addmm(v, a, a.t())|torch.addmv(v[:3], a, v)|torch.addr(a, a[:, 0], v)|torch.baddbmm(b[:, :, :3], b, b.mT)
torch.addbmm(a[:, :3], b, b.mT, beta=0.5)|torch.kron(a, v)|torch.kron(a, a)|torch.kron(v, v)
torch.cdist(a, a[:2] + 1)|torch.cdist(b, b + 1, p=1.0)|torch.cdist(a, v)|torch.linalg.multi_dot([a, a.t(), a])
torch.matmul(a, 3)|a @ a.t().float()|i @ i|(a * 1) @ v.detach()
""".replace("\n", "|").strip("|").split("|")  # fmt: skip

SORTING = """
a.sort()|a.sort(0)|a.sort(1, descending=True)|i.sort(descending=True)|torch.sort(v, stable=True)|s.sort()|e.sort(0)
a.sort(3)|a.argsort(0)|i.argsort(descending=True, stable=True)|torch.msort(a)|a.topk(2)|a.topk(1, 0)
a.topk(2, largest=False)|a.topk(5)|v.topk(0)|s.topk(1)|i.unique()|torch.unique(i, return_inverse=True)
torch.unique(i, return_counts=True)|torch.unique(i.reshape(2, 2), dim=0)
torch.unique(i, return_inverse=True, return_counts=True)|torch.unique_consecutive(i)
torch.unique_consecutive(i, return_inverse=True, return_counts=True)|torch.isin(i, torch.tensor([1, 2]))
torch.isin(i, 2)|torch.isin(i, torch.tensor([1]), invert=True)|torch.meshgrid(v, a[:, 0], indexing="ij")
torch.meshgrid(v, a[:, 0], indexing="xy")|torch.cartesian_prod(v, a[:, 0])|torch.cartesian_prod(v)
torch.combinations(v)|torch.combinations(v, 3)|torch.combinations(v, 2, with_replacement=True)|torch.combinations(a)
""".replace("\n", "|").strip("|").split("|")  # fmt: skip


def data(lib, dtype="float64"):
    rng = np.random.default_rng(7)
    d = getattr(lib, dtype)
    arrays = {"a": rng.normal(size=(3, 4)), "b": rng.normal(size=(2, 3, 4)), "v": rng.normal(size=4),
              "s": np.asarray(rng.normal()),
              "e": np.zeros((0, 3))}  # fmt: skip
    names = {"torch": lib, "np": np, "i": lib.tensor([3, 1, 1, 2])}
    for name, value in arrays.items():
        names[name] = lib.tensor(value if name == "e" else value.tolist(), dtype=d, requires_grad=True)
    return names


def tensors(result):
    parts = result if isinstance(result, (tuple, list)) else (result,)
    return [p for p in parts if hasattr(p, "detach")]


def failure(error):
    base = next(t for t in (IndexError, TypeError, ValueError, RuntimeError) if isinstance(error, t))
    return base.__name__, str(error).split("\n")[0].split(" (got ")[0][:70]


def evaluate(lib, source, dtype="float64"):
    """Values, dtypes, gradients and second derivatives of an expression, or its failure."""
    names = data(lib, dtype)
    leaves = [names[n] for n in "abvse"]
    try:
        outs = tensors(eval(source, names))
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        return failure(error)
    values = [(str(o.dtype), np.array(o.detach().numpy())) for o in outs]
    total = None
    for o in outs:
        if o.requires_grad:
            # Weights that differ entry by entry, so that a gradient in the wrong place shows.
            k = lib.arange(o.numel(), dtype=getattr(lib, dtype)).reshape(o.shape) + 1
            part = (o * o * o * k).sum()
            total = part if total is None else total + part
    if total is None:
        return values, [], []
    first = lib.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
    again = sum((g * g).sum() for g in first if g is not None)
    try:
        second = lib.autograd.grad(again, leaves, allow_unused=True) if again.requires_grad else [None] * 5
    except NotImplementedError:  # PyTorch's cdist has no second derivative
        second = None
    if second is None:
        return values, [None if g is None else np.array(g.detach().numpy()) for g in first], None
    return values, *([None if g is None else np.array(g.detach().numpy()) for g in gs] for gs in (first, second))


def agree(ours, theirs, source, tolerance):
    text = f"{source}\nours:   {ours}\nPyTorch: {theirs}"
    if isinstance(ours[0], str) or isinstance(theirs[0], str):
        assert ours == theirs, text
        return
    assert len(ours[0]) == len(theirs[0]), text
    for (d, x), (t, y) in zip(ours[0], theirs[0], strict=True):
        assert d == t, text
        assert x.shape == y.shape, text
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, err_msg=text)
    for which in (1, 2) if theirs[2] is not None else (1,):
        for x, y in zip(ours[which], theirs[which], strict=True):
            if x is None or y is None:
                assert x is None or not x.any(), text
                assert y is None or not y.any(), text
            else:
                np.testing.assert_allclose(x, y, rtol=tolerance * 10, atol=tolerance * 100, err_msg=text)


@pytest.mark.parametrize("source", [*LAYOUT, *JOINING, *INDEXING, *PRODUCTS, *SORTING])
def test_expressions(source):
    agree(evaluate(chainrule, source), evaluate(torch, source), source, 1e-12)


@pytest.mark.parametrize("source", [*LAYOUT[:40], *INDEXING[:60], *PRODUCTS[:20]])
def test_float32(source):
    ours, theirs = evaluate(chainrule, source, "float32"), evaluate(torch, source, "float32")
    agree(ours, theirs, source, 2e-5)


ASSIGNMENTS = [*((s, g) for s in ASSIGN for g in (True, False)), *((s, False) for s in VALUES_ONLY)]


@pytest.mark.parametrize(("source", "grad"), ASSIGNMENTS)
def test_assignments(source, grad):
    found = []
    for lib in (chainrule, torch):
        names = data(lib)
        leaves = [names[n] for n in "abvs"]
        if not grad:
            names.update({n: names[n].detach() for n in "abvs"})
        names["x"], names["w"] = names["a"] * 1, names["b"][0] * 1
        try:
            exec(source, names)
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            found.append(failure(error))
            continue
        x = names["x"]
        gradients = lib.autograd.grad((x * x * x).sum(), leaves, allow_unused=True) if grad else [None] * 4
        found.append(([("", np.array(x.detach().numpy()))],
                      [None if g is None else np.array(g.numpy()) for g in gradients], []))  # fmt: skip
    agree(*found, source, 1e-12)
