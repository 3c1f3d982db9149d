"""Softmax, normalisations, dropout and embeddings against PyTorch."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule

sys.path.insert(0, str(Path(__file__).parent))

from pairs import assert_same, compare


def call(name, *args, **settings):
    return lambda lib, x, *tensors: getattr(lib.nn.functional, name)(x, *args, *tensors, **settings)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (5,), (), (0, 3), (2, 0)])
def test_softmax(name, shape):
    r = np.random.default_rng(0)
    for dim in range(-max(len(shape), 1), max(len(shape), 1)):
        compare(call(name, dim), [np.asarray(r.normal(size=shape) * 5)], f"{name} {shape} {dim}", ulps=64)
    compare(
        lambda M, x: getattr(M.nn.functional, name)(x, 0, dtype=M.float64), [np.asarray(r.normal(size=shape), "f4")]
    )


def test_softmax_of_large_and_infinite():
    x = np.array([[1e4, 0.0, -1e4], [-np.inf, 0.0, 1.0], [1000.0, 1000.0, 1000.0]])
    compare(call("softmax", 1), [x], order=1)
    compare(call("log_softmax", 1), [x[::2]], order=1)


SHAPES = [(5, 3), (4, 3, 2), (2, 3, 2, 2), (2, 3, 2, 1, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm(shape):
    r = np.random.default_rng(0)
    w, b = r.normal(size=3), r.normal(size=3)
    mean, var = r.normal(size=3), r.uniform(1, 2, 3)
    F = "batch_norm"

    def train(lib, x, *wb):
        return getattr(lib.nn.functional, F)(x, None, None, *wb, training=True, eps=1e-3)

    def test(lib, x, *wb):
        return getattr(lib.nn.functional, F)(x, lib.tensor(mean), lib.tensor(var), *wb)

    for function, wb in itertools.product((train, test), ((), (w, b))):
        compare(function, [r.normal(size=shape), *wb], f"{shape} {len(wb)}", ulps=1024)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize(("name", "shape"), [
    ("BatchNorm1d", (5, 3)), ("BatchNorm1d", (4, 3, 2)), ("BatchNorm2d", (2, 3, 2, 2)),
                                             ("BatchNorm3d", (2, 3, 1, 2, 2)), ("InstanceNorm1d", (2, 3, 5)),
                                             ("InstanceNorm2d", (2, 3, 4, 2))])  # fmt: skip
def test_running_statistics(name, shape, momentum):
    if momentum is None and name.startswith("Instance"):
        return  # PyTorch's instance norm has no cumulative average
    r = np.random.default_rng(0)
    settings = {"momentum": momentum, "track_running_stats": True, "affine": True}
    both = {
        torch: getattr(torch.nn, name)(3, **settings, dtype=torch.float64),
        chainrule: getattr(chainrule.nn, name)(3, **settings, dtype=chainrule.float64),
    }
    assert repr(both[chainrule]) == repr(both[torch])
    for step in range(4):
        x = r.normal(size=shape)
        outs = [layer(lib.tensor(x)) for lib, layer in both.items()]
        assert_same(outs[1], outs[0], f"step {step}", ulps=256)
        for (key, theirs), ours in zip(
            both[torch].state_dict().items(), both[chainrule].state_dict().values(), strict=True
        ):
            assert_same(ours, theirs, f"step {step}: {key}", ulps=256)
    for layer in both.values():
        layer.eval()
    x = r.normal(size=shape)
    assert_same(both[chainrule](chainrule.tensor(x)), both[torch](torch.tensor(x)), "eval", ulps=256)


def test_layer_rms_group_and_instance_norm():
    r = np.random.default_rng(0)
    n = lambda *s: r.normal(size=s)
    for shape, inner in (((2, 4), (4,)), ((2, 3, 4), (4,)), ((2, 3, 4), (3, 4)), ((4,), (4,)), ((2, 3, 4), (2, 3, 4))):
        x, w, b = n(*shape), n(*inner), n(*inner)
        for wb in ((), (w,), (w, b)):
            compare(call("layer_norm", inner), [x, *wb], f"layer {shape} {inner} {len(wb)}", ulps=1024)
        for wb in ((), (w,)):
            compare(call("rms_norm", inner), [x, *wb], f"rms {shape} {inner} {len(wb)}", ulps=1024)
    for shape in ((2, 6), (2, 6, 3), (2, 6, 2, 2)):
        for groups in (1, 2, 3, 6):
            if shape == (2, 6) and groups == 6:
                continue  # one value a group: 0/√ε, and PyTorch refuses
            for wb in ((), (n(6), n(6))):
                compare(call("group_norm", groups), [n(*shape), *wb], f"group {shape} {groups}", ulps=1024)
    compare(call("instance_norm"), [n(2, 3, 5)], "instance", ulps=1024)
    for p, dim in ((2.0, 1), (1.0, 0), (3.0, -1)):
        compare(call("normalize", p, dim), [n(2, 3, 4)], f"normalize {p} {dim}", ulps=256)
    compare(call("local_response_norm", 3, 0.1, 0.6, 1.2), [n(2, 6, 3, 4)], "local response", ulps=64)


def test_float32_keeps_its_dtype():
    r = np.random.default_rng(0)
    x, w = r.normal(size=(4, 3, 5)).astype("f4"), r.normal(size=5).astype("f4")
    compare(call("layer_norm", (5,)), [x, w, w], "layer norm", ulps=64, order=1)
    compare(lambda lib, x, w: lib.nn.functional.batch_norm(x, None, None, w, w, True), [x, w[:3]], ulps=64, order=1)


def test_embeddings():
    r = np.random.default_rng(0)
    index, table = r.integers(0, 6, (3, 4)), r.normal(size=(6, 3))

    def embed(lib, w, **settings):
        return lib.nn.functional.embedding(lib.tensor(index), w, **settings)

    compare(embed, [table], "embedding")
    compare(lambda lib, w: embed(lib, w, padding_idx=2), [table], "padding", order=1)
    offsets = np.array([0, 3, 3, 9])
    for mode, padding in itertools.product(("sum", "mean", "max"), (None, 2)):

        def rows(lib, w, mode=mode, padding=padding):
            return lib.nn.functional.embedding_bag(lib.tensor(index), w, mode=mode, padding_idx=padding)

        def cut(lib, w, mode=mode, padding=padding):
            flat, starts = lib.tensor(index.ravel()), lib.tensor(offsets)
            return lib.nn.functional.embedding_bag(flat, w, starts, mode=mode, padding_idx=padding)

        compare(rows, [table], f"rows, {mode} {padding}")
        compare(cut, [table], f"offsets, {mode} {padding}")
    for bad, message in (([1, 3], r"offsets\[0\] has to be 0"), ([0, 13], r"offsets\[-1\] can not be greater")):
        for lib in (torch, chainrule):
            with pytest.raises(RuntimeError, match=message):
                lib.nn.functional.embedding_bag(lib.tensor(index.ravel()), lib.tensor(table), lib.tensor(bad))


@pytest.mark.parametrize(
    "name", ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]
)
def test_dropout_has_the_same_distribution(name):
    """Own stream, same law: the values that entries take, how many, and which entries share their fate."""
    shape = {"dropout1d": (40, 50, 4), "dropout2d": (40, 50, 2, 2), "dropout3d": (40, 50, 2, 2, 1)}.get(
        name, (40, 50, 4)
    )
    values = []
    for lib in (chainrule, torch):
        y = getattr(lib.nn.functional, name)(lib.ones(shape), 0.3, True).numpy()
        kinds, counts = np.unique(np.round(y, 4), return_counts=True)
        values.append((kinds, counts / counts.sum()))
        if name not in ("dropout", "alpha_dropout"):  # a channel is kept or dropped as a whole
            assert (y.reshape(40, 50, -1) == y.reshape(40, 50, -1)[..., :1]).all()
    np.testing.assert_allclose(values[0][0], values[1][0], atol=2e-4)
    # 2000 channels at p = 0.3: standard deviation 0.01; five of them
    np.testing.assert_allclose(values[0][1], values[1][1], atol=0.07)
    x = chainrule.ones(3, 3)
    assert getattr(chainrule.nn.functional, name)(chainrule.ones(shape), 0.3, False).numpy().all()
    assert chainrule.nn.functional.dropout(x, 1.0).tolist() == [[0.0] * 3] * 3


MESSAGES = [
    lambda M: M.nn.functional.softmax(M.ones(2, 3), 5),
    lambda M: M.nn.functional.dropout(M.ones(2), 1.5),
    lambda M: M.nn.functional.batch_norm(M.ones(1, 3), M.zeros(3), M.ones(3), training=True),
    lambda M: M.nn.functional.batch_norm(M.ones(2, 3), M.zeros(4), M.ones(4), training=True),
    lambda M: M.nn.functional.layer_norm(M.ones(2, 3), (4,)),
    lambda M: M.nn.functional.layer_norm(M.ones(2, 3), (3,), M.ones(2)),
    lambda M: M.nn.functional.instance_norm(M.ones(2, 3, 1)),
    lambda M: M.nn.functional.embedding(M.tensor([1, 9]), M.ones(3, 2)),
    lambda M: M.nn.functional.embedding(M.tensor([1, 2]), M.ones(3, 2), padding_idx=5),
    lambda M: M.nn.functional.linear(M.ones(2, 3), M.ones(4, 5)),
    lambda M: M.nn.functional.one_hot(M.tensor([1, -2])),
    lambda M: M.nn.functional.one_hot(M.tensor([1, 2]), 2),
    lambda M: M.nn.BatchNorm2d(3)(M.ones(2, 3)),
    lambda M: M.nn.GroupNorm(2, 3),
]


@pytest.mark.parametrize("number", range(len(MESSAGES)))
def test_messages(number):
    with pytest.raises(Exception) as theirs:
        MESSAGES[number](torch)
    with pytest.raises(type(theirs.value)) as ours:
        MESSAGES[number](chainrule)
    assert str(ours.value).split("\n")[0] == str(theirs.value).split("\n")[0]
