"""scikit-learn: MLPClassifier and MLPRegressor, one ``partial_fit`` with the whole batch per step, no shuffling.

Its squared error is half of PyTorch's, so its learning rate is doubled for SGD and its loss for the comparison. Its
Adam adds ε before the bias correction, which is another formula where gradients are tiny: see ``tolerance``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..workloads import LR, Workload, data, fill, parameters, workload

__all__ = ["load", "step", "supports"]


def supports(w: Workload, optimizer: str) -> bool:
    return w.kind == "mlp" and w.key in "abcd"


def tolerance(w: Workload, optimizer: str) -> float:
    """The same program up to ε: over 50 steps of Adam the losses were seen to differ by up to 4e-4."""
    return 2e-3 if optimizer == "adam" else 1e-4


def load(threads: int) -> None:
    import sklearn.neural_network  # noqa: F401  # its BLAS reads the thread count from the environment


def step(library: str, name: str) -> Callable[[], Any]:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    w, which = workload(name)
    x, y = data(w)
    regression = w.loss == "mse"
    settings: dict[str, Any] = {
        "hidden_layer_sizes": w.widths[1:-1], "activation": "tanh" if regression else "relu", "solver": which,
        "alpha": 0.0, "batch_size": w.batch, "momentum": 0.0, "nesterovs_momentum": False,
        "shuffle": False, "epsilon": 1e-8,
        "learning_rate_init": LR[which] * (2 if regression and which == "sgd" else 1),
    }  # fmt: skip
    model: Any = MLPRegressor(**settings) if regression else MLPClassifier(**settings)
    target = y[:, 0] if regression else y
    known: dict[str, Any] = {} if regression else {"classes": np.arange(w.widths[-1])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.partial_fit(
            x, target, **known
        )  # makes the weights and the optimizer's state; both get their start values below
    start = fill(*parameters(w))
    for i in range(len(w.widths) - 1):
        assert model.coefs_[i].dtype == np.float32
        model.coefs_[i][...] = start[2 * i].T
        model.intercepts_[i][...] = start[2 * i + 1]
    for moments in (getattr(model._optimizer, "ms", ()), getattr(model._optimizer, "vs", ())):
        for moment in moments:
            moment[...] = 0
    if which == "adam":
        model._optimizer.t = 0
    factor = 2.0 if regression else 1.0

    def once() -> float:
        model.partial_fit(x, target)
        return factor * model.loss_

    return once
