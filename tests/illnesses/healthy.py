"""Healthy networks: nothing should be found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .networks import Given, cnn, diabetes, digits, handmade, he, mlp, recurrent, resnet, transformer

__all__ = ["HEALTHY"]

HEALTHY: dict[str, Callable[[Any], Given]] = {}


def healthy(f: Callable[[Any], Given]) -> Callable[[Any], Given]:
    HEALTHY[f.__name__] = f
    return f


def _ce(tb: Any) -> Any:
    return tb.nn.functional.cross_entropy


def _register(
    name: str,
    make: Callable[[Any], Any],
    shape: str = "flat",
    n: int = 128,
    optimizer: Callable[[Any, Any], Any] | None = None,
) -> None:
    def build(tb: Any) -> Given:
        model = make(tb)
        options = {} if optimizer is None else {"optimizer": optimizer(tb, model)}
        return Given(model, _ce(tb), digits(tb, n, shape), options)

    build.__name__ = name
    HEALTHY[name] = build


for _act in ("ReLU", "Tanh", "GELU", "SiLU", "ELU", "LeakyReLU"):
    _register(f"mlp_{_act.lower()}_2", lambda tb, a=_act: mlp(tb, a, 2))
_register("mlp_sigmoid_1", lambda tb: mlp(tb, "Sigmoid", 1))
_register("mlp_sigmoid_2", lambda tb: mlp(tb, "Sigmoid", 2))
_register("mlp_relu_4", lambda tb: mlp(tb, "ReLU", 4))
_register("mlp_relu_5_narrow", lambda tb: mlp(tb, "ReLU", 5, 32), n=64)
_register("mlp_relu_wide", lambda tb: mlp(tb, "ReLU", 2, 256))
_register("mlp_relu_20_he", lambda tb: he(tb, mlp(tb, "ReLU", 20)))
_register("mlp_tanh_12_xavier", lambda tb: he(tb, mlp(tb, "Tanh", 12), "tanh"))
_register("mlp_relu_12_batchnorm", lambda tb: mlp(tb, "ReLU", 12, norm="BatchNorm1d"))
_register("mlp_relu_8_layernorm", lambda tb: mlp(tb, "ReLU", 8, norm="LayerNorm"))
_register("mlp_dropout", lambda tb: mlp(tb, "ReLU", 3, drop=0.3))
_register("mlp_small_batch", lambda tb: mlp(tb, "ReLU", 2), n=16)
_register("mlp_linear", lambda tb: tb.nn.Sequential(tb.nn.Linear(64, 10)))
_register("resnet_12", lambda tb: resnet(tb))
_register("resnet_30", lambda tb: resnet(tb, 30))
_register("cnn_relu", lambda tb: cnn(tb), "image")
_register("cnn_gelu_3", lambda tb: cnn(tb, "GELU", depth=3), "image")
_register("cnn_batchnorm_4", lambda tb: cnn(tb, depth=4, norm=True), "image")
_register("rnn_gru", lambda tb: recurrent(tb, "GRU"), "rows")
_register("rnn_lstm", lambda tb: recurrent(tb, "LSTM"), "rows")
_register("rnn_tanh", lambda tb: recurrent(tb, "RNN"), "rows")
_register("rnn_handmade", lambda tb: handmade(tb), "rows")
_register("transformer_2", lambda tb: transformer(tb), "rows")
_register("transformer_6", lambda tb: transformer(tb, 6), "rows")
_register("transformer_post_norm", lambda tb: transformer(tb, 2, pre_norm=False), "rows")
_register("mlp_sgd", lambda tb: mlp(tb), optimizer=lambda tb, m: tb.optim.SGD(m.parameters(), lr=0.1))
_register(
    "mlp_momentum",
    lambda tb: mlp(tb),
    optimizer=lambda tb, m: tb.optim.SGD(m.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4),
)
_register("mlp_adam", lambda tb: mlp(tb), optimizer=lambda tb, m: tb.optim.Adam(m.parameters(), lr=1e-3))
_register(
    "cnn_adamw",
    lambda tb: cnn(tb),
    "image",
    optimizer=lambda tb, m: tb.optim.AdamW(m.parameters(), lr=3e-3, weight_decay=0.05),
)
_register(
    "transformer_adamw",
    lambda tb: transformer(tb),
    "rows",
    optimizer=lambda tb, m: tb.optim.AdamW(m.parameters(), lr=1e-3),
)
_register("mlp_sgd_slow", lambda tb: mlp(tb), optimizer=lambda tb, m: tb.optim.SGD(m.parameters(), lr=0.01))


@healthy
def regression_mse(tb: Any) -> Given:
    return Given(mlp(tb, n_in=10, n_out=1), tb.nn.functional.mse_loss, diabetes(tb))


@healthy
def regression_huber_flat(tb: Any) -> Given:
    class Flat(tb.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(tb, "Tanh", n_in=10, n_out=1)

        def forward(self, x: Any) -> Any:
            return self.net(x).squeeze(-1)

    return Given(Flat(), tb.nn.HuberLoss(), diabetes(tb, column=False))


@healthy
def regression_own_loss(tb: Any) -> Given:
    return Given(mlp(tb, n_in=10, n_out=1), lambda out, y: ((out - y) ** 2).mean(), diabetes(tb))


@healthy
def binary_logits(tb: Any) -> Given:
    x, y = digits(tb)
    return Given(mlp(tb, n_out=1), tb.nn.BCEWithLogitsLoss(), (x, (y > 4).float().reshape(-1, 1)))


@healthy
def binary_sigmoid(tb: Any) -> Given:
    x, y = digits(tb)
    return Given(
        tb.nn.Sequential(*mlp(tb, n_out=1).children(), tb.nn.Sigmoid()),
        tb.nn.BCELoss(),
        (x, (y > 4).float().reshape(-1, 1)),
    )


@healthy
def log_softmax_nll(tb: Any) -> Given:
    return Given(tb.nn.Sequential(*mlp(tb).children(), tb.nn.LogSoftmax(dim=1)), tb.nn.NLLLoss(), digits(tb))


@healthy
def loss_times_million(tb: Any) -> Given:
    return Given(mlp(tb), lambda out, y: 1e6 * tb.nn.functional.cross_entropy(out, y), digits(tb))


@healthy
def loss_over_million(tb: Any) -> Given:
    return Given(mlp(tb, "Tanh", 4), lambda out, y: 1e-6 * tb.nn.functional.cross_entropy(out, y), digits(tb))


@healthy
def label_smoothing_sum(tb: Any) -> Given:
    return Given(mlp(tb), tb.nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum"), digits(tb))


@healthy
def autoencoder(tb: Any) -> Given:
    x, _ = digits(tb)
    return Given(
        tb.nn.Sequential(tb.nn.Linear(64, 16), tb.nn.Tanh(), tb.nn.Linear(16, 64)), tb.nn.functional.mse_loss, (x, x)
    )


@healthy
def token_model(tb: Any) -> Given:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 20, (64, 6))
    nn = tb.nn
    net = nn.Sequential(nn.Embedding(20, 16), nn.Flatten(), nn.Linear(96, 32), nn.ReLU(), nn.Linear(32, 20))
    return Given(net, _ce(tb), (tb.from_numpy(tokens), tb.from_numpy((tokens[:, 0] + tokens[:, 1]) % 20)))


@healthy
def fine_tuning(tb: Any) -> Given:
    """A trained body that is kept, and a new head."""
    model = mlp(tb)
    x, y = digits(tb, 256)
    optimizer = tb.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        _ce(tb)(model(x), y).backward()
        optimizer.step()
    for p in list(model.parameters())[:2]:
        p.requires_grad_(False)
        p.grad = None
    return Given(model, _ce(tb), (x, y))


@healthy
def trained(tb: Any) -> Given:
    model = mlp(tb)
    x, y = digits(tb, 512)
    optimizer = tb.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        _ce(tb)(model(x), y).backward()
        optimizer.step()
    return Given(model, _ce(tb), digits(tb, 128, seed=1))


@healthy
def a_good_loop(tb: Any) -> Given:
    model = mlp(tb, drop=0.1)
    x, y = digits(tb)
    optimizer = tb.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        _ce(tb)(model(x), y).backward()
        tb.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        model.eval()
        with tb.no_grad():
            model(x)
        model.train()

    return Given(model, _ce(tb), (x, y), {"optimizer": optimizer, "step": step})
