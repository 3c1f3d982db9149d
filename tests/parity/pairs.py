"""The same call on chainrule and on PyTorch: value, dtype, gradients and second derivatives compared."""

from __future__ import annotations

import numpy as np
import torch

import chainrule

EPS = {np.dtype(np.float16): 1e-3, np.dtype(np.float32): 1.2e-7, np.dtype(np.float64): 2.3e-16}


def both(array, requires_grad=False):
    """The array as a chainrule and as a PyTorch tensor, each with its own memory and the array's strides."""
    a, b = np.copy(array, order="K"), np.copy(array, order="K")
    ours, theirs = chainrule.from_numpy(a), torch.from_numpy(b)
    if requires_grad and array.dtype.kind == "f":
        ours.requires_grad_()
        theirs.requires_grad_()
    return ours, theirs


def assert_same(ours, theirs, what, ulps=16, scale=None):
    """Equal shape, dtype and entries up to ``ulps`` units in the last place of the largest entry."""
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs), what
        for i, (o, t) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(o, t, f"{what}[{i}]", ulps)
        return
    if not isinstance(theirs, torch.Tensor):
        assert ours == theirs, what
        return
    assert tuple(ours.shape) == tuple(theirs.shape), f"{what}: shape {tuple(ours.shape)}, PyTorch {tuple(theirs.shape)}"
    assert str(ours.dtype) == str(theirs.dtype), f"{what}: {ours.dtype}, PyTorch {theirs.dtype}"
    assert ours.requires_grad == theirs.requires_grad, f"{what}: requires_grad {ours.requires_grad}"
    a, b = ours.detach().numpy(), theirs.detach().numpy(force=True)
    if b.dtype.kind != "f":
        np.testing.assert_array_equal(a, b, err_msg=what)
        return
    finite = np.abs(b[np.isfinite(b)])
    size = max(float(finite.max(initial=0.0)), 1e-30) if scale is None else scale
    eps = EPS[b.dtype]
    np.testing.assert_allclose(a, b, rtol=ulps * eps, atol=ulps * eps * size, err_msg=what)


def compare(function, arrays, what="", ulps=16, order=2, same_error=True):
    """``function(M, *tensors)`` with M each library: values, gradients (and theirs, for order 2), or errors."""
    pairs = [both(a, True) if isinstance(a, np.ndarray) else (a, a) for a in arrays]
    ours, theirs = [p[0] for p in pairs], [p[1] for p in pairs]
    try:
        expected = function(torch, *theirs)
    except Exception as error:
        if not same_error:
            return
        with np.testing.assert_raises(type(error)):
            function(chainrule, *ours)
        return
    found = function(chainrule, *ours)
    assert_same(found, expected, what, ulps)
    outs = [(o, t) for o, t in zip(_flat(found), _flat(expected), strict=True) if t.requires_grad]
    leaves = [(o, t) for o, t in zip(ours, theirs, strict=True) if isinstance(t, torch.Tensor) and t.requires_grad]
    if not outs or not leaves or order < 1:
        return
    rng = np.random.default_rng(0)
    starts = [both(np.asarray(rng.uniform(0.5, 1.5, tuple(t.shape))).astype(o.detach().numpy().dtype)) for o, t in outs]
    first_ours = chainrule.autograd.grad(
        [o for o, _ in outs], [o for o, _ in leaves], [s[0] for s in starts], create_graph=order > 1, allow_unused=True
    )
    try:
        first_theirs = torch.autograd.grad(
            [t for _, t in outs], [t for _, t in leaves], [s[1] for s in starts], create_graph=order > 1,
            allow_unused=True,
        )  # fmt: skip
    except RuntimeError as error:
        if "not implemented" in str(error):  # PyTorch has no derivative here
            return
        raise
    for i, (o, t) in enumerate(zip(first_ours, first_theirs, strict=True)):
        assert (o is None) == (t is None), f"{what}: gradient {i} is {o}, PyTorch {t}"
        if t is not None:
            _same_numbers(o, t, f"{what}: gradient {i}", 4 * ulps)
    if order < 2:
        return
    along_ours = sum((o * o.detach()).sum() for o in first_ours if o is not None and o.requires_grad)
    along_theirs = sum((t * t.detach()).sum() for t in first_theirs if t is not None and t.requires_grad)
    if isinstance(along_theirs, int) or isinstance(along_ours, int):
        return  # linear: PyTorch may or may not keep a graph of a constant gradient
    try:
        second_theirs = torch.autograd.grad(along_theirs, [t for _, t in leaves], allow_unused=True)
    except RuntimeError as error:
        if "not implemented" in str(error):
            return
        raise
    second_ours = chainrule.autograd.grad(along_ours, [o for o, _ in leaves], allow_unused=True)
    for i, (o, t) in enumerate(zip(second_ours, second_theirs, strict=True)):
        a = np.zeros(leaves[i][1].shape) if o is None else o.detach().numpy()
        b = np.zeros(leaves[i][1].shape) if t is None else t.detach().numpy(force=True)
        size = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0.0)))
        eps = EPS[leaves[i][1].detach().numpy(force=True).dtype]
        np.testing.assert_allclose(
            a, b, rtol=64 * ulps * eps, atol=64 * ulps * eps * size, err_msg=f"{what}: second derivative {i}"
        )


def _same_numbers(o, t, what, ulps):
    assert tuple(o.shape) == tuple(t.shape), f"{what}: shape {tuple(o.shape)}, PyTorch {tuple(t.shape)}"
    assert str(o.dtype) == str(t.dtype), f"{what}: {o.dtype}, PyTorch {t.dtype}"
    a, b = o.detach().numpy(), t.detach().numpy(force=True)
    size = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0.0)))
    np.testing.assert_allclose(a, b, rtol=ulps * EPS[b.dtype], atol=ulps * EPS[b.dtype] * size, err_msg=what)


def _flat(x):
    return list(x) if isinstance(x, (tuple, list)) else [x]


def layouts(rng, low, high, dtype):
    """Arrays of many shapes: 0-d, 1-d, matrices, empty, with axes of size 1, transposed, strided."""

    def draw(shape):
        return np.asarray(rng.uniform(low, high, shape)).astype(dtype)

    return {
        "0-d": draw(()), "1": draw((1,)), "5": draw((5,)), "3x4": draw((3, 4)), "2x1x3": draw((2, 1, 3)),
        "empty": draw((0,)), "2x0x3": draw((2, 0, 3)), "transposed": draw((4, 3)).T, "strided": draw((6, 4))[::2, 1::2],
        "2x3x2x2": draw((2, 3, 2, 2)),
    }  # fmt: skip


BROADCASTS = [
    ((), ()), ((3,), ()), ((), (2, 3)), ((3,), (2, 3)), ((2, 3), (2, 1)), ((2, 1, 3), (4, 1)), ((1,), (3,)),
    ((0,), (1,)), ((2, 0), (0,)), ((2, 0), ()), ((2, 3, 4), (2, 3, 4)),
]  # fmt: skip


def layers(build, dtype="float64"):
    """``build(M)`` in each library, with the same repr, state keys and values: (ours, theirs)."""
    theirs, ours = build(torch), build(chainrule)
    for module in (theirs, ours):
        module.to(getattr(torch if module is theirs else chainrule, dtype))
    assert repr(ours) == repr(theirs)
    state = theirs.state_dict()
    assert [(k, tuple(v.shape), str(v.dtype)) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape), str(v.dtype)) for k, v in state.items()
    ]
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    ours.load_state_dict({k: chainrule.tensor(v.numpy()) for k, v in state.items()})
    return ours, theirs


def compare_layers(build, arrays, what="", ulps=64, order=2, train=True, dtype="float64", call=None):
    """Layers in both libraries: repr, state, outputs, gradients of inputs and parameters, and the state afterwards."""
    ours, theirs = layers(build, dtype)
    what = what or repr(theirs)
    count = len(list(theirs.parameters()))
    for module in (ours, theirs):
        module.train(train)

    def run(M, *tensors):
        module = theirs if M is torch else ours
        for (name, _), p in zip(list(module.named_parameters()), tensors[:count], strict=True):
            path, _, leaf = name.rpartition(".")
            module.get_submodule(path)._parameters[leaf] = p
        out = module(*tensors[count:]) if call is None else call(module, *tensors[count:])
        return list(out) if isinstance(out, tuple) else out

    weights = [p.detach().numpy() for p in theirs.parameters()]
    inputs = [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arrays]
    compare(run, [*weights, *inputs], what, ulps, order)
    for (key, o), t in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert_same(o, t, f"{what}: {key}", ulps)


def same_error(call):
    """``call(M)`` raises in both libraries: the same built-in type and the same first line."""
    with np.testing.assert_raises(Exception) as theirs:
        call(torch)
    with np.testing.assert_raises(type(theirs.exception)) as ours:
        call(chainrule)
    assert str(ours.exception).split("\n")[0] == str(theirs.exception).split("\n")[0]
