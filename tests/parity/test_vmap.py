"""``vmap`` and the transforms of ``torch.func`` against PyTorch: values, gradients through and inside, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule

# PyTorch's own: it resizes an output of its vmap, and scripts a decomposition for forward-mode derivatives
pytestmark = [
    pytest.mark.filterwarnings("ignore:An output with one or more elements was resized"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script`"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),
]
LIBS = (chainrule, torch)
X = np.random.default_rng(0).normal(size=(5, 3, 4))
Y = np.random.default_rng(1).normal(size=(5, 3, 4))
V = np.random.default_rng(2).normal(size=4)


def leaves(x):
    if isinstance(x, dict):
        return [leaf for key in x for leaf in leaves(x[key])]
    return [leaf for part in x for leaf in leaves(part)] if isinstance(x, (tuple, list)) else [x]


def agree(run, rtol=1e-10):
    ours, theirs = (leaves(run(lib)) for lib in LIBS)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert tuple(a.shape) == tuple(b.shape)
        assert str(a.dtype) == str(b.dtype)
        assert a.requires_grad == b.requires_grad
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=rtol, atol=1e-12)


def _inplace(lib, x, y):
    z = x * 2
    z[0] = y[1]
    return z.add_(1)


FUNCTIONS = {
    "elementwise": lambda lib, x, y: x.sin() * y + 1,
    "reductions": lambda lib, x, y: (x.sum(), y.mean(1), x.std(0, keepdim=True), x.amax(), y.argmax(-1), y.norm()),
    "matmul": lambda lib, x, y: x @ y.T + (x[0] @ y[1]) + lib.einsum("ij,kj->ik", x, y),
    "layout": lambda lib, x, y: lib.cat([x.T.reshape(2, 6), y.reshape(-1)[None, :6].expand(2, 6)], 1).permute(1, 0),
    "indexing": lambda lib, x, y: x[1:, ::2].sum() + y[[0, 2]][..., None] + x.gather(1, (y[:, :2] > 0).long()).sum(),
    "softmax": lambda lib, x, y: lib.softmax(x, -1) * lib.log_softmax(y, 0) + lib.logsumexp(x, 1, keepdim=True),
    "layers": lambda lib, x, y: lib.nn.functional.layer_norm(x, (4,)) + lib.nn.functional.linear(x, y[:, :4].T @ y),
    "convolution": lambda lib, x, y: lib.nn.functional.conv1d(x[None], y[None, :, :3], padding=1),
    "losses": lambda lib, x, y: (
        lib.nn.functional.cross_entropy(x, lib.tensor([0, 3, 1])), lib.nn.functional.mse_loss(x, y),
        lib.nn.functional.binary_cross_entropy_with_logits(x, lib.sigmoid(y), reduction="sum"),
    ),
    "sorting": lambda lib, x, y: (x.sort(-1).values, x.topk(2, 0).values, y.cumsum(1), y.flip(0), y.roll(1, 1)),
    "linalg": lambda lib, x, y: (lib.linalg.solve(x[:, :3] + 3 * lib.eye(3, dtype=x.dtype), y), lib.tril(x[:, :3])),
    "masks": lambda lib, x, y: lib.where(x > 0, x, y).masked_fill(y > 1, 0.0).clamp(-1, 1),
    "constant": lambda lib, x, y: (lib.zeros_like(x), x.detach() * y),
    "in place": _inplace,
    "dict and list": lambda lib, x, y: {"a": [x + y, x[0]], "b": (y.sum(),)},
}  # fmt: skip


@pytest.mark.parametrize("name", list(FUNCTIONS))
@pytest.mark.parametrize("in_dims", [0, (0, None), (2, 1)], ids=str)
def test_values_and_gradients_through(name, in_dims):
    f = FUNCTIONS[name]

    def move(array, d):
        return array[0] if d is None else np.moveaxis(array, 0, d).copy()

    dims = (in_dims,) * 2 if isinstance(in_dims, int) else in_dims

    def run(lib):
        x, y = (lib.tensor(move(a, d), requires_grad=True) for a, d in zip((X, Y), dims))
        out = lib.vmap(lambda x, y: f(lib, x, y), in_dims)(x, y)
        floats = [o for o in leaves(out) if o.requires_grad]
        grads = ()
        if floats:
            total = sum((o * o.detach().cos()).sum() for o in floats)
            grads = lib.autograd.grad(total, [x, y], allow_unused=True, materialize_grads=True)
        return out, grads

    agree(run)


@pytest.mark.parametrize("out_dims", [0, 1, -1, {"a": [1, 0], "b": (0,)}], ids=str)
def test_out_dims(out_dims):
    f = FUNCTIONS["dict and list"]
    if out_dims == 1:
        f = FUNCTIONS["elementwise"]
    if out_dims == -1:
        f = FUNCTIONS["matmul"]
    agree(lambda lib: lib.vmap(lambda x, y: f(lib, x, y), out_dims=out_dims)(lib.tensor(X), lib.tensor(Y)))


def test_nested_and_chunked():
    agree(
        lambda lib: lib.vmap(lib.vmap(lambda x, v: x @ v, in_dims=(0, None)), (1, None))(lib.tensor(X), lib.tensor(V))
    )
    agree(lambda lib: lib.vmap(lib.vmap(lib.vmap(lib.mul)))(lib.tensor(X), lib.tensor(Y)))
    agree(lambda lib: lib.vmap(lambda x: (x.sum(0), x), out_dims=(0, 1), chunk_size=2)(lib.tensor(X)))
    agree(lambda lib: lib.vmap(lambda x, *, k: x * k)(lib.tensor(X), k=3))
    agree(
        lambda lib: lib.vmap(lambda d: d["x"] * d["y"][0], ({"x": 0, "y": [None]},))(
            {"x": lib.tensor(X), "y": [lib.tensor(V)]}
        )
    )


def test_closed_over_tensors_get_gradients():
    def run(lib):
        w = lib.tensor(V, requires_grad=True)
        out = lib.vmap(lambda x: (x @ w).tanh().sum())(lib.tensor(X))
        return out, lib.autograd.grad((out**2).sum(), w)

    agree(run)


def test_gradients_inside():
    def run(lib):
        func = lib.func
        x, v = lib.tensor(X[0]), lib.tensor(V)
        f = lambda v, x: ((x * v).sin().sum()) ** 2
        return (
            lib.vmap(func.grad(f), (None, 0))(v, x),
            lib.vmap(func.grad_and_value(f), (None, 0))(v, x),
            lib.vmap(func.hessian(f), (None, 0))(v, x),
            lib.vmap(func.jacrev(lambda x: x**3))(x),
            lib.vmap(func.jacfwd(lambda x: (x.sum(), x.prod())))(x),
            lib.vmap(lambda t: func.jvp(lib.sin, (v,), (t,))[1])(x),
            lib.vmap(func.vjp(lambda v: (v.exp(), v.sum()), v)[1])((x, x[:, 0])),
            func.jacrev(lib.vmap(lambda x: x.cumsum(0)))(x),
            func.grad(lambda x: lib.vmap(func.grad(lambda r: (r**3).sum()))(x).sum())(x),
        )

    agree(run)


@pytest.mark.parametrize("net", ["mlp", "cnn", "norm", "embedding"])
def test_per_sample_gradients(net):
    rng = np.random.default_rng(0)
    data = {"mlp": (6, 10), "cnn": (6, 2, 6, 6), "norm": (6, 3, 4), "embedding": (6, 3)}[net]
    x = rng.integers(0, 7, data) if net == "embedding" else rng.normal(size=data)
    target = rng.integers(0, 3, 6)

    def model(nn):
        return {
            "mlp": lambda: nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3)),
            "cnn": lambda: nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.Flatten(),
                nn.Linear(12, 3),
            ),
            "norm": lambda: nn.Sequential(nn.GroupNorm(1, 3), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 3)),
            "embedding": lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 3)),
        }[net]()  # fmt: skip

    weights = {k: v.detach().double().numpy() for k, v in model(torch.nn).state_dict().items()}

    def run(lib):
        m = model(lib.nn).double()
        params = {k: lib.tensor(v) for k, v in weights.items()}

        def loss(params, x, y):
            out = lib.func.functional_call(m, params, (x[None],))
            return lib.nn.functional.cross_entropy(out, y[None])

        return lib.vmap(lib.func.grad(loss), (None, 0, 0))(params, lib.tensor(x), lib.tensor(target))

    agree(run)


def test_ensembles():
    rng = np.random.default_rng(0)
    state = [{k: rng.normal(size=s) for k, s in (("0.weight", (5, 4)), ("0.bias", (5,)), ("2.weight", (2, 5)),
                                                 ("2.bias", (2,)))} for _ in range(3)]  # fmt: skip

    def run(lib):
        nn = lib.nn
        models = []
        for one in state:
            m = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double()
            m.load_state_dict({k: lib.tensor(v) for k, v in one.items()})
            models.append(m)
        params, buffers = lib.func.stack_module_state(models)
        call = lambda p, b, x: lib.func.functional_call(models[0], (p, b), (x,))
        shared = lib.vmap(call, (0, 0, None))(params, buffers, lib.tensor(X[0]))
        own = lib.vmap(call, (0, 0, 0))(params, buffers, lib.tensor(X[:3]))
        grads = lib.autograd.grad((shared**2).sum() + own.sin().sum(), list(params.values()))
        return params, shared, own, grads

    agree(run)
    with pytest.raises(RuntimeError, match="Expected at least one model, got 0"):
        chainrule.func.stack_module_state([])


def test_linearize_functionalize_and_structures():
    def run(lib):
        func, x, v = lib.func, lib.tensor(X[0]), lib.tensor(V)
        value, along = func.linearize(lambda d: {"s": d["x"].sin(), "p": d["x"] @ d["v"]}, {"x": x, "v": v})
        tangent = {"x": x * 2, "v": v + 1}
        pair = func.jacrev(lambda a, b: {"o": a * b}, argnums=(0, 1), chunk_size=2)(v, v * 2)
        aux = func.jacrev(lambda a: (a**2, {"aux": a}), has_aux=True)(v)
        grads = func.grad(lambda p, q: (p["a"] * q).sum() + (p["b"][0] ** 2).sum(), (0, 1))({"a": v, "b": [v]}, v)
        with_aux = func.grad_and_value(lambda a: ((a**2).sum(), a + 1), has_aux=True)(v)
        jvp = func.jvp(lambda a, b: (a * b, a.sum()), (v, v), (v, v * 0 + 1))
        return (
            value, along(tangent), along(tangent), pair, aux, grads, with_aux, jvp,
            func.functionalize(lambda a: a.clone().add_(1))(v),
            func.hessian(lambda a, b: (a**2 * b).sum(), (0, 1))(v, v),
        )  # fmt: skip

    agree(run)


def test_transforms_leave_the_callers_graph_in_place():
    def run(lib):
        w = lib.tensor(V, requires_grad=True)
        x = lib.tensor(V + 1)
        g = lib.func.grad(lambda x: (w * x**2).sum())(x)  # depends on w, although w is no argument
        value, pull = lib.func.vjp(lambda x: w * x, x)
        (p,) = pull(lib.ones_like(x))
        (second,) = lib.autograd.grad(g.sum() + p.sum() + value.sum(), w)
        free = lib.func.grad(lambda x: (x**2).sum())(x)
        with lib.no_grad():
            off = lib.func.grad(lambda x: (w * x**2).sum())(x)
        return g, p, second, free, off

    agree(run)


def test_batch_norm_without_running_statistics():
    def run(lib):
        m = lib.nn.Sequential(lib.nn.Conv2d(1, 2, 1), lib.nn.BatchNorm2d(2))
        lib.func.replace_all_batch_norm_modules_(m)
        return [lib.tensor(float(m[1].running_mean is None and m[1].track_running_stats is False))]

    agree(run)


# --- what a program cannot stand for ---------------------------------------------------------------------------------


def test_python_that_looks_at_values_is_right():
    x = chainrule.tensor(X[0], requires_grad=True)

    def f(row):
        return row * 2 if row.sum() > 0 else -row

    out = chainrule.vmap(f)(x)
    expected = chainrule.stack([f(row) for row in x])
    assert chainrule.equal(out, expected)
    (g,) = chainrule.autograd.grad(out.sum(), x)
    assert chainrule.equal(g, chainrule.autograd.grad(expected.sum(), x)[0])


def test_custom_functions_and_numpy_inside():
    class Double(chainrule.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 5  # not the derivative, so that a gradient that goes around it shows

    x = chainrule.tensor(X[0], requires_grad=True)
    chainrule.vmap(lambda r: Double.apply(r).sum())(x).sum().backward()
    assert (x.grad == 5).all()
    secret = chainrule.vmap(lambda r: chainrule.tensor(float(np.asarray(r.detach()._array).sum())) + r)(x)
    assert chainrule.allclose(secret, (x + x.sum(1, keepdim=True)).to(secret.dtype))


def test_memory_from_outside():
    total = chainrule.zeros(4, dtype=chainrule.float64)
    x = chainrule.tensor(X[0])
    chainrule.vmap(lambda r: total.add_(r))(x)
    assert chainrule.allclose(total, x.sum(0))
    y = x.clone()
    chainrule.vmap(lambda r: r.mul_(2))(y)
    assert chainrule.equal(y, x * 2)


def test_random_numbers():
    x = chainrule.zeros(4, 3)
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        chainrule.vmap(lambda r: r + chainrule.rand(3))(x)
    chainrule.manual_seed(0)
    same = chainrule.vmap(lambda r: r + chainrule.rand(3), randomness="same")(x)
    assert (same == same[0]).all()
    chainrule.manual_seed(0)
    assert chainrule.equal(same[0], chainrule.rand(3))
    different = chainrule.vmap(lambda r: r + chainrule.rand(3), randomness="different")(x)
    assert len({tuple(r.tolist()) for r in different}) == 4


CALLS = {
    "in_dims type": lambda lib: lib.vmap(lib.sin, in_dims="0")(lib.ones(2)),
    "no inputs": lambda lib: lib.vmap(lambda: 1)(),
    "structure": lambda lib: lib.vmap(lib.mul, in_dims=(0,))(lib.ones(2), lib.ones(2)),
    "not a tensor": lambda lib: lib.vmap(lib.mul)(lib.ones(2), 3.0),
    "range": lambda lib: lib.vmap(lib.sin, in_dims=2)(lib.ones(2)),
    "sizes": lambda lib: lib.vmap(lib.mul)(lib.ones(2), lib.ones(3)),
    "returns": lambda lib: lib.vmap(lambda x: 3)(lib.ones(2)),
    "out_dims": lambda lib: lib.vmap(lambda x: x, out_dims=(0, 1))(lib.ones(2)),
    "out_dims None": lambda lib: lib.vmap(lambda x: x, out_dims=None)(lib.ones(2)),
    "randomness": lambda lib: lib.vmap(lib.sin, randomness="some")(lib.ones(2)),
    "chunk_size": lambda lib: lib.vmap(lib.sin, chunk_size=0)(lib.ones(2)),
    "jvp primals": lambda lib: lib.func.jvp(lib.sin, lib.ones(2), (lib.ones(2),)),
    "grad of a vector": lambda lib: lib.func.grad(lib.sin)(lib.ones(2)),
    "argnums": lambda lib: lib.func.grad(lambda x: x.sum(), 3)(lib.ones(2)),
    "no aux": lambda lib: lib.func.grad(lambda x: x.sum(), has_aux=True)(lib.ones(2)),
    "functionalize": lambda lib: lib.func.functionalize(lib.sin, remove="all"),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_errors(name):
    with pytest.raises(Exception) as theirs:
        CALLS[name](torch)
    with pytest.raises(theirs.type) as ours:
        CALLS[name](chainrule)
    start = str(theirs.value).split("\n")[0].split("(<inputs>)")[0][:40]
    assert str(ours.value).startswith(start), (str(ours.value), str(theirs.value))
