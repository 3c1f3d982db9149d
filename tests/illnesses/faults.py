"""Planted faults. The first code of ``expected`` is the fault's name; any of them counts as found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .networks import Given, cnn, diabetes, digits, handmade, mlp, recurrent, transformer

__all__ = ["FAULTS"]

FAULTS: dict[str, tuple[tuple[str, ...], Callable[[Any], Given]]] = {}


def fault(*expected: str) -> Any:
    def add(f: Callable[[Any], Given]) -> Callable[[Any], Given]:
        FAULTS[f.__name__] = (expected, f)
        return f

    return add


def _ce(tb: Any) -> Any:
    return tb.nn.functional.cross_entropy


def _each(model: Any, kinds: tuple[str, ...] = ("Linear", "Conv2d")) -> list[Any]:
    return [m for m in model.modules() if type(m).__name__ in kinds]


# --- gradient flow ----------------------------------------------------------------------------------------------------


def _flow(name: str, expected: tuple[str, ...], make: Callable[[Any], Any], shape: str = "flat", n: int = 128) -> None:
    FAULTS[name] = (expected, lambda tb: Given(make(tb), _ce(tb), digits(tb, n, shape)))


def _scaled(tb: Any, model: Any, std: float, kinds: tuple[str, ...] = ("Linear", "Conv2d")) -> Any:
    for m in _each(model, kinds):
        tb.nn.init.normal_(m.weight, 0.0, std)
    return model


_flow("sigmoid_20", ("vanishing-gradient",), lambda tb: mlp(tb, "Sigmoid", 20))
_flow("sigmoid_8", ("vanishing-gradient",), lambda tb: mlp(tb, "Sigmoid", 8, 32))
_flow("tanh_small_weights", ("vanishing-gradient", "init-scale"), lambda tb: _scaled(tb, mlp(tb, "Tanh", 8), 0.02))
_flow("relu_30_default", ("vanishing-gradient",), lambda tb: mlp(tb, "ReLU", 30))
_flow("relu_15_small", ("vanishing-gradient", "init-scale"), lambda tb: _scaled(tb, mlp(tb, "ReLU", 15), 0.05))
_flow("relu_12_large", ("exploding-gradient", "init-scale"), lambda tb: _scaled(tb, mlp(tb, "ReLU", 12), 1.0))
_flow("linear_chain_large", ("exploding-gradient", "init-scale"), lambda tb: _scaled(tb, mlp(tb, "LeakyReLU", 8), 0.6))
_flow("cnn_sigmoid_8", ("vanishing-gradient",), lambda tb: cnn(tb, "Sigmoid", depth=8), "image")
_flow("cnn_large", ("exploding-gradient", "init-scale"), lambda tb: _scaled(tb, cnn(tb, depth=6), 1.0), "image")
_flow("rnn_long", ("vanishing-gradient",), lambda tb: handmade(tb, repeat=8), "rows")
_flow("rnn_sigmoid_long", ("vanishing-gradient",), lambda tb: handmade(tb, act="sigmoid", repeat=4), "rows")


def _wild_rnn(tb: Any) -> Any:
    model = handmade(tb, act="relu", repeat=5)
    tb.nn.init.normal_(model.back.weight, 0.0, 0.6)
    return model


_flow("rnn_exploding", ("exploding-gradient", "init-scale"), _wild_rnn, "rows")
_flow("transformer_no_skip", ("vanishing-gradient",), lambda tb: transformer(tb, 8, residual=False, norm=False), "rows")
_flow("tanh_large_weights", ("saturation", "init-scale"), lambda tb: _scaled(tb, mlp(tb, "Tanh", 3), 1.5))
_flow(
    "sigmoid_large_weights",
    ("saturation", "init-scale", "vanishing-gradient"),
    lambda tb: _scaled(tb, mlp(tb, "Sigmoid", 3), 3.0),
)
_flow("cnn_tanh_saturated", ("saturation", "init-scale"), lambda tb: _scaled(tb, cnn(tb, "Tanh"), 3.0), "image")
_flow("init_large_shallow", ("init-scale", "initial-loss"), lambda tb: _scaled(tb, mlp(tb, "ReLU", 2), 1.0))
_flow("init_small_shallow", ("init-scale", "vanishing-gradient"), lambda tb: _scaled(tb, mlp(tb, "ReLU", 3), 0.003))


def _dead(tb: Any, model: Any, bias: float = -20.0, first: int = 1) -> Any:
    m = _each(model)[first]
    with tb.no_grad():
        m.bias.fill_(bias)
    return model


_flow("dead_relu", ("dead-relu",), lambda tb: _dead(tb, mlp(tb, depth=3)))
_flow("dead_relu_first", ("dead-relu",), lambda tb: _dead(tb, mlp(tb, depth=2), first=0))
_flow("dead_cnn", ("dead-relu",), lambda tb: _dead(tb, cnn(tb)), "image")


def _half_dead(tb: Any) -> Any:
    model = mlp(tb, depth=2)
    with tb.no_grad():
        _each(model)[1].bias[:48] -= 15.0
    return model


_flow("mostly_dead_relu", ("dead-relu",), _half_dead)


def _constant(tb: Any, model: Any, value: float) -> Any:
    for m in _each(model):
        tb.nn.init.constant_(m.weight, value)
        tb.nn.init.zeros_(m.bias)
    return model


_flow("zero_init", ("zero-init", "symmetric-init"), lambda tb: _constant(tb, mlp(tb), 0.0))
_flow("zero_init_cnn", ("zero-init", "symmetric-init", "dead-relu"), lambda tb: _constant(tb, cnn(tb), 0.0), "image")
_flow("symmetric_init", ("symmetric-init",), lambda tb: _constant(tb, mlp(tb, "Tanh"), 0.05))
_flow("symmetric_init_relu", ("symmetric-init",), lambda tb: _constant(tb, mlp(tb), 0.1))


# --- loss -------------------------------------------------------------------------------------------------------------


@fault("double-softmax")
def softmax_then_cross_entropy(tb: Any) -> Given:
    return Given(tb.nn.Sequential(*mlp(tb).children(), tb.nn.Softmax(dim=1)), tb.nn.CrossEntropyLoss(), digits(tb))


@fault("double-softmax")
def softmax_in_cnn(tb: Any) -> Given:
    return Given(
        tb.nn.Sequential(*cnn(tb).children(), tb.nn.Softmax(dim=1)), tb.nn.CrossEntropyLoss(), digits(tb, shape="image")
    )


@fault("double-softmax")
def softmax_in_loss(tb: Any) -> Given:
    return Given(recurrent(tb), lambda out, y: _ce(tb)(tb.softmax(out, dim=-1), y), digits(tb, shape="rows"))


@fault("double-softmax")
def sigmoid_then_bce_logits(tb: Any) -> Given:
    x, y = digits(tb)
    return Given(
        tb.nn.Sequential(*mlp(tb, n_out=1).children(), tb.nn.Sigmoid()),
        tb.nn.BCEWithLogitsLoss(),
        (x, (y > 4).float().reshape(-1, 1)),
    )


@fault("missing-softmax")
def nll_of_logits(tb: Any) -> Given:
    return Given(mlp(tb), tb.nn.NLLLoss(), digits(tb))


@fault("missing-softmax")
def nll_of_probabilities(tb: Any) -> Given:
    return Given(tb.nn.Sequential(*mlp(tb).children(), tb.nn.Softmax(dim=1)), tb.nn.NLLLoss(), digits(tb))


@fault("missing-softmax")
def bce_of_logits(tb: Any) -> Given:
    x, y = digits(tb)
    return Given(mlp(tb, n_out=1), tb.nn.BCELoss(), (x, (y > 4).float().reshape(-1, 1)))


@fault("activation-before-loss")
def relu_on_logits(tb: Any) -> Given:
    return Given(tb.nn.Sequential(*mlp(tb).children(), tb.nn.ReLU()), _ce(tb), digits(tb))


@fault("softmax-wrong-axis")
def log_softmax_over_batch(tb: Any) -> Given:
    return Given(tb.nn.Sequential(*mlp(tb).children(), tb.nn.LogSoftmax(dim=0)), tb.nn.NLLLoss(), digits(tb))


@fault("wrong-loss")
def mse_on_one_hot(tb: Any) -> Given:
    x, y = digits(tb)
    hot = tb.from_numpy(np.eye(10, dtype=np.float32)[y.numpy()])
    return Given(tb.nn.Sequential(*mlp(tb).children(), tb.nn.Softmax(dim=1)), tb.nn.MSELoss(), (x, hot))


@fault("constant-output")
def softmax_of_one(tb: Any) -> Given:
    x, y = digits(tb)
    net = tb.nn.Sequential(*mlp(tb, n_out=1).children(), tb.nn.Softmax(dim=1))
    return Given(net, tb.nn.BCELoss(), (x, (y > 4).float().reshape(-1, 1)))


@fault("silent-broadcast")
def column_against_row(tb: Any) -> Given:
    return Given(mlp(tb, n_in=10, n_out=1), tb.nn.MSELoss(), diabetes(tb, column=False))


@fault("silent-broadcast")
def column_against_row_by_hand(tb: Any) -> Given:
    return Given(mlp(tb, n_in=10, n_out=1), lambda out, y: ((out - y) ** 2).mean(), diabetes(tb, column=False))


@fault("target-range")
def tanh_cannot_reach(tb: Any) -> Given:
    x, y = diabetes(tb)
    return Given(
        tb.nn.Sequential(*mlp(tb, n_in=10, n_out=1).children(), tb.nn.Sigmoid()), tb.nn.MSELoss(), (x, 100 + 50 * y)
    )


@fault("target-range")
def bce_targets_plus_minus(tb: Any) -> Given:
    x, y = digits(tb)
    return Given(mlp(tb, n_out=1), tb.nn.BCEWithLogitsLoss(), (x, ((y > 4).float() * 2 - 1).reshape(-1, 1)))


@fault("label-range")
def labels_from_one(tb: Any) -> Given:
    x, y = digits(tb)
    return Given(mlp(tb), _ce(tb), (x, y + 1))


@fault("label-range")
def too_few_outputs(tb: Any) -> Given:
    return Given(cnn(tb)[:-1].append(tb.nn.Linear(128, 8)), _ce(tb), digits(tb, shape="image"))


# --- data -------------------------------------------------------------------------------------------------------------


@fault("input-scale")
def raw_pixels_255(tb: Any) -> Given:
    x, y = digits(tb)
    return Given(mlp(tb), _ce(tb), ((x + 1) * 100, y))


@fault("input-scale")
def raw_images_255(tb: Any) -> Given:
    x, y = digits(tb, shape="image")
    return Given(cnn(tb), _ce(tb), ((x + 1) * 100, y))


@fault("input-scale")
def one_huge_feature(tb: Any) -> Given:
    x, y = diabetes(tb)
    scale = np.ones(10, np.float32)
    scale[3] = 1000.0
    return Given(mlp(tb, "Tanh", n_in=10, n_out=1), tb.nn.MSELoss(), (x * tb.from_numpy(scale), y))


@fault("input-scale")
def tiny_inputs(tb: Any) -> Given:
    x, y = digits(tb)
    return Given(mlp(tb), _ce(tb), (x * 1e-4, y))


@fault("input-scale")
def far_from_zero(tb: Any) -> Given:
    x, y = diabetes(tb)
    return Given(mlp(tb, n_in=10, n_out=1), tb.nn.MSELoss(), (x + 500, y))


@fault("constant-input")
def constant_inputs(tb: Any) -> Given:
    x, y = digits(tb)
    return Given(mlp(tb), _ce(tb), (x * 0 + 0.5, y))


@fault("nonfinite-input")
def nan_in_a_row(tb: Any) -> Given:
    x, y = digits(tb)
    x[3, 7] = float("nan")
    return Given(mlp(tb), _ce(tb), (x, y))


@fault("one-class")
def one_class(tb: Any) -> Given:
    x, y = digits(tb)
    return Given(mlp(tb), _ce(tb), (x, y * 0 + 4))


@fault("shuffled-labels")
def shuffled_labels(tb: Any) -> Given:
    x, y = digits(tb, 256)
    return Given(mlp(tb), _ce(tb), (x, tb.from_numpy(np.random.default_rng(5).permutation(y.numpy()))))


@fault("shuffled-labels")
def shuffled_images(tb: Any) -> Given:
    x, y = digits(tb, 200, "image")
    return Given(cnn(tb), _ce(tb), (x, tb.from_numpy(np.random.default_rng(6).permutation(y.numpy()))))


# --- wiring -----------------------------------------------------------------------------------------------------------


def _net(tb: Any, forward: Any) -> Any:
    class Net(tb.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = tb.nn.Linear(64, 32), tb.nn.Linear(32, 32), tb.nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            return forward(self, x)

    return Net()


@fault("graph-cut")
def detached(tb: Any) -> Given:
    return Given(_net(tb, lambda s, x: s.c(tb.relu(s.b(tb.relu(s.a(x)).detach())))), _ce(tb), digits(tb))


@fault("graph-cut")
def no_grad_inside(tb: Any) -> Given:
    def forward(s: Any, x: Any) -> Any:
        with tb.no_grad():
            h = tb.relu(s.a(x))
        return s.c(tb.relu(s.b(h)))

    return Given(_net(tb, forward), _ce(tb), digits(tb))


@fault("graph-cut")
def loss_of_argmax(tb: Any) -> Given:
    return Given(mlp(tb), lambda out, y: (out.argmax(1) != y).float().mean(), digits(tb))


@fault("graph-cut")
def through_numpy(tb: Any) -> Given:
    return Given(
        _net(tb, lambda s, x: s.c(tb.relu(s.b(tb.from_numpy(tb.relu(s.a(x)).detach().numpy() * 1))))),
        _ce(tb),
        digits(tb),
    )


@fault("graph-cut")
def in_place_edit(tb: Any) -> Given:
    def forward(s: Any, x: Any) -> Any:
        h = tb.sigmoid(s.a(x))
        out = s.c(tb.relu(s.b(h)))
        h += 1.0
        return out

    return Given(_net(tb, forward), _ce(tb), digits(tb))


@fault("unused-parameters")
def forgotten_layer(tb: Any) -> Given:
    return Given(_net(tb, lambda s, x: s.c(tb.relu(s.a(x)))), _ce(tb), digits(tb))


@fault("frozen")
def frozen_layer(tb: Any) -> Given:
    model = mlp(tb, depth=3)
    for p in list(model.parameters())[2:4]:
        p.requires_grad_(False)
    return Given(model, _ce(tb), digits(tb))


@fault("frozen")
def frozen_cnn(tb: Any) -> Given:
    model = cnn(tb)
    for p in list(model.parameters())[:2]:
        p.requires_grad_(False)
    return Given(model, _ce(tb), digits(tb, shape="image"))


@fault("not-in-optimizer")
def half_given(tb: Any) -> Given:
    model = mlp(tb)
    return Given(model, _ce(tb), digits(tb), {"optimizer": tb.optim.Adam(model[0].parameters(), lr=1e-3)})


@fault("foreign-optimizer", "not-in-optimizer")
def made_too_early(tb: Any) -> Given:
    optimizer = tb.optim.SGD(mlp(tb).parameters(), lr=0.1)
    return Given(mlp(tb), _ce(tb), digits(tb), {"optimizer": optimizer})


@fault("mode")
def left_in_eval(tb: Any) -> Given:
    return Given(mlp(tb, norm="BatchNorm1d").eval(), _ce(tb), digits(tb))


@fault("mode")
def cnn_left_in_eval(tb: Any) -> Given:
    return Given(cnn(tb, norm=True).eval(), _ce(tb), digits(tb, shape="image"))


@fault("batchnorm-batch-1")
def batch_of_one(tb: Any) -> Given:
    return Given(mlp(tb, norm="BatchNorm1d"), _ce(tb), digits(tb, 1))


@fault("batchnorm-batch-1")
def batch_of_one_cnn(tb: Any) -> Given:
    return Given(cnn(tb, norm=True), _ce(tb), digits(tb, 1, "image"))


@fault("dropout-too-high")
def keep_probability(tb: Any) -> Given:
    return Given(mlp(tb, drop=0.95), _ce(tb), digits(tb))


# --- optimizer and loop -----------------------------------------------------------------------------------------------


def _with(
    name: str, expected: str, make: Callable[[Any], Any], optimizer: Callable[[Any, Any], Any], shape: str = "flat"
) -> None:
    def build(tb: Any) -> Given:
        model = make(tb)
        return Given(model, _ce(tb), digits(tb, shape=shape), {"optimizer": optimizer(tb, model)})

    FAULTS[name] = ((expected,), build)


_with("sgd_lr_100", "lr-too-large", mlp, lambda tb, m: tb.optim.SGD(m.parameters(), lr=100.0))
_with("adam_lr_1", "lr-too-large", mlp, lambda tb, m: tb.optim.Adam(m.parameters(), lr=1.0))
_with("cnn_sgd_lr_20", "lr-too-large", cnn, lambda tb, m: tb.optim.SGD(m.parameters(), lr=20.0), "image")
_with("sgd_lr_1e6", "lr-too-small", mlp, lambda tb, m: tb.optim.SGD(m.parameters(), lr=1e-6))
_with("adam_lr_1e8", "lr-too-small", mlp, lambda tb, m: tb.optim.Adam(m.parameters(), lr=1e-8))
_with("transformer_lr_1e7", "lr-too-small", transformer, lambda tb, m: tb.optim.AdamW(m.parameters(), lr=1e-7), "rows")
_with("decay_10", "weight-decay", mlp, lambda tb, m: tb.optim.SGD(m.parameters(), lr=0.05, weight_decay=5.0))
_with("adamw_decay_50", "weight-decay", mlp, lambda tb, m: tb.optim.AdamW(m.parameters(), lr=1e-3, weight_decay=50.0))


def _loop(tb: Any, model: Any, body: Any, shape: str = "flat", lr: float = 0.05) -> Given:
    x, y = digits(tb, shape=shape)
    optimizer = tb.optim.SGD(model.parameters(), lr=lr)
    return Given(model, _ce(tb), (x, y), {"optimizer": optimizer, "step": lambda: body(model, optimizer, x, y)})


@fault("stale-gradients")
def no_zero_grad(tb: Any) -> Given:
    def body(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        _ce(tb)(model(x), y).backward()
        optimizer.step()

    return _loop(tb, mlp(tb), body)


@fault("stale-gradients")
def no_zero_grad_cnn(tb: Any) -> Given:
    def body(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        loss = _ce(tb)(model(x), y)
        loss.backward()
        optimizer.step()

    return _loop(tb, cnn(tb), body, "image")


@fault("cleared-gradients")
def zero_grad_before_step(tb: Any) -> Given:
    def body(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        _ce(tb)(model(x), y).backward()
        optimizer.zero_grad()
        optimizer.step()

    return _loop(tb, mlp(tb), body)


@fault("clipping")
def clip_at_a_thousandth(tb: Any) -> Given:
    def body(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        optimizer.zero_grad()
        _ce(tb)(model(x), y).backward()
        tb.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()

    return _loop(tb, mlp(tb), body)


@fault("dropout-at-evaluation")
def evaluated_in_train_mode(tb: Any) -> Given:
    def body(model: Any, optimizer: Any, x: Any, y: Any) -> None:
        optimizer.zero_grad()
        _ce(tb)(model(x), y).backward()
        optimizer.step()
        with tb.no_grad():
            model(x)

    return _loop(tb, mlp(tb, drop=0.3), body)


# --- NaN and Inf ------------------------------------------------------------------------------------------------------


@fault("nonfinite")
def log_of_zero(tb: Any) -> Given:
    return Given(mlp(tb), lambda out, y: -(tb.relu(out) / tb.relu(out).sum(1, keepdim=True)).log().mean(), digits(tb))


@fault("nonfinite")
def exp_overflows(tb: Any) -> Given:
    return Given(
        mlp(tb), lambda out, y: (tb.exp(out * 5000) / tb.exp(out * 5000).sum(1, keepdim=True)).mean(), digits(tb)
    )


@fault("nonfinite")
def root_of_zero(tb: Any) -> Given:
    """The value √0 = 0 is fine, its slope is not."""
    return Given(
        mlp(tb), lambda out, y: tb.sqrt(((out - out.detach()) ** 2).sum(1)).mean() + _ce(tb)(out, y), digits(tb)
    )


@fault("nonfinite-parameter")
def nan_weights(tb: Any) -> Given:
    model = mlp(tb)
    with tb.no_grad():
        model[2].weight[0, 0] = float("nan")
    return Given(model, _ce(tb), digits(tb))
