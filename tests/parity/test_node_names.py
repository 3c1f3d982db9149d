"""``type(t.grad_fn).__name__`` is PyTorch's name of the op, wherever one op is one op in both libraries."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

import chainrule

CALLS = (
    """
x+y | x-y | x*y | x/y | x+1 | x*2 | x**2 | x**y | 2-x | -x | x%2 | x.abs() | x.exp() | x.log() | x.sqrt()
x.rsqrt() | x.sin() | x.tanh() | x.sigmoid() | x.relu() | x.sum() | x.sum(0) | x.mean() | x.mean(0) | x.prod()
x.prod(0) | x.max() | x.max(0)[0] | x.amax(0) | x.min(0)[0] | x.std() | x.var(0) | x.norm() | x.norm(dim=0)
x.softmax(0) | x.log_softmax(0) | x.logsumexp(0) | x.cumsum(0) | x.cumprod(0) | x.sort(0)[0] | x.topk(1)[0]
x.median() | x.median(0)[0] | x.kthvalue(1)[0] | x.mode(0)[0] | x@y | x.mm(y) | x@v | v@v | b.bmm(b)
T.dot(v,v) | T.outer(v,v) | T.addmm(x,x,y) | T.mv(x,v) | T.baddbmm(b,b,b) | T.addmv(v,x,v) | T.addr(x,v,v)
T.addcmul(x,x,y) | T.addcdiv(x,x,y) | T.lerp(x,y,0.5) | x.reshape(-1) | x.view(-1) | x.view(1,9) | x.flatten()
x.transpose(0,1) | x.permute(1,0) | b.permute(2,0,1) | x.unsqueeze(0) | x[None] | x.unsqueeze(0).squeeze()
x.expand(2,3,3) | x.expand_as(b) | x.repeat(2,1) | x[0] | x[1:] | x[:,1] | x[[0,1]] | x[m] | x[...,0] | x[0,0]
x.select(0,1) | x.narrow(0,0,1) | x.index_select(0,i) | x.gather(0,i2) | x.masked_select(m) | x.masked_fill(m,0)
x.take(i) | x.diagonal() | x.tril() | x.triu() | x.flip(0) | x.roll(1) | x.split(1)[0] | x.chunk(3)[0]
x.unbind(0)[0] | T.cat([x,y]) | T.stack([x,y]) | T.where(m,x,y) | x.clone() | x.contiguous() | x.double()
x.to(T.float64) | x.clamp(0,1) | x.clamp(min=0) | x.clamp(max=0) | T.maximum(x,y) | x.unfold(0,2,1)
x.movedim(0,1) | x.trace() | x.scatter(0,i2,y) | x.scatter_add(0,i2,y) | x.index_add(0,i,x)
x.index_fill(0,i,0.) | x.index_copy(0,i,x) | T.nn.functional.pad(x,(1,1)) | x.view_as(x) | x.unflatten(0,(3,1))
F.linear(x,y,v) | F.linear(x,y) | F.linear(b,y,v) | F.linear(b,y) | F.linear(v,y,v) | F.mse_loss(x,y)
F.l1_loss(x,y) | F.cross_entropy(x,i) | F.nll_loss(x,i) | F.binary_cross_entropy_with_logits(x,y)
F.huber_loss(x,y) | F.gelu(x) | F.silu(x) | F.elu(x) | F.selu(x) | F.leaky_relu(x) | F.softplus(x)
F.hardtanh(x) | F.hardswish(x) | F.hardsigmoid(x) | F.mish(x) | F.logsigmoid(x) | F.softsign(x) | F.relu6(x)
F.prelu(x,v[:1]) | F.threshold(x,0,0) | F.softshrink(x) | F.hardshrink(x) | F.tanhshrink(x) | F.conv1d(b,b)
F.conv2d(b[None],b[None]) | F.max_pool2d(b,2) | F.batch_norm(b,None,None,training=True) | F.layer_norm(x,(3,))
F.embedding(i,x) | F.normalize(x) | F.cosine_similarity(x,y) | F.one_hot(i).float()*x | T.cdist(x,y)
T.linalg.inv(s) | T.linalg.det(s) | T.linalg.slogdet(s)[1] | T.linalg.cholesky(s) | T.linalg.eigh(s)[0]
T.linalg.svd(s)[1] | T.linalg.qr(s)[0] | T.linalg.solve(s,y) | T.linalg.pinv(s) | T.linalg.norm(x)
T.linalg.matrix_norm(x) | T.linalg.svdvals(s) | T.linalg.matrix_power(s,2) | x.sign() | x.floor() | x.ceil()
x.round() | x.trunc() | x.frac() | x.erf() | x.erfc() | x.erfinv() | x.lgamma() | x.digamma() | x.polygamma(1)
T.special.i0(x) | T.special.i1(x) | T.special.ndtri(x.sigmoid()) | T.special.log_ndtr(x) | T.special.entr(x)
T.special.xlog1py(x,y) | T.xlogy(x,y.abs()) | T.special.zeta(x.abs()+2,y.abs()) | T.hypot(x,y) | T.atan2(x,y)
T.logaddexp(x,y) | T.fmod(x,2) | T.fmax(x,y) | x.nan_to_num() | x.sinc() | x.logit() | x.expm1() | x.log1p()
x.log2() | x.log10() | x.exp2() | x.reciprocal() | x.square() | x.asin() | x.acos() | x.atan() | x.sinh()
x.cosh() | x.asinh() | x.atanh() | x.tan() | x.cos() | x.deg2rad() | x.cummax(0)[0] | x.logcumsumexp(0)
x.renorm(2,0,1.) | x.dist(y) | x.copysign(y) | x.ldexp(y) | x.float_power(2) | x.nanmean() | x.nansum()
x.diff() | x.std(0) | T.var_mean(x)[1] | x.tile(2) | x.rot90() | x.diag_embed()
x.take_along_dim(i2) | x.put(i,v) | x.masked_scatter(m,y) | x.index_put((i,),v) | x.select_scatter(v,0,0)
x.slice_scatter(x[:1],0,0,1) | x.diagonal_scatter(v) | x.clone().add_(y) | x.clone().mul_(2)
x.clone().fill_(1.)*x | x.clone().copy_(y) | x.clone().relu_() | x.clone().sub_(1) | x.clone().clamp_(0,1)
x.clone().masked_fill_(m,0)
""".strip()
    .replace("\n", " | ")
    .split(" | ")
)


def inputs(T):
    rng = np.random.default_rng(0)
    a, b, c, d = (rng.random(s).astype(np.float32) for s in ((3, 3), (3, 3), (3,), (3, 3, 3)))
    leaves = {"x": a, "y": b, "v": c, "b": d, "s": a @ a.T + np.eye(3, dtype=np.float32)}
    found = {name: T.tensor(value).requires_grad_() for name, value in leaves.items()}
    others = {"m": T.tensor(a > 0.5), "i": T.tensor([0, 2, 1]), "i2": T.tensor([[0, 1, 2]])}
    return found | others | {"T": T, "F": T.nn.functional}


@pytest.mark.parametrize("call", CALLS)
def test_class_name(call):
    ours, theirs = (eval(call, inputs(T)).grad_fn for T in (chainrule, torch))
    assert type(ours).__name__ == type(theirs).__name__


def test_looking_changes_nothing_else():
    x = chainrule.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    node = y.grad_fn
    assert node is y.grad_fn
    assert isinstance(node, chainrule.core.node.Node)
    ((before, k),) = node.next_functions
    assert (type(before).__name__, k) == ("MulBackward0", 0)
    assert type(before.next_functions[0][0]).__name__ == "AccumulateGrad"
    y.backward()
    assert x.grad.tolist() == [2.0, 4.0]
    gone = weakref.ref(node)
    del node, before, y
    gc.collect()
    assert gone() is None
