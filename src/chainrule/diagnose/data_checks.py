"""What can be seen in a batch before anything runs: inputs, labels, and whether the two belong together."""

from __future__ import annotations

from typing import Any

import numpy as np

from .finding import Finding

__all__ = ["check_batch", "check_inputs", "related"]


def _numbers(values: Any) -> str:
    return ", ".join(f"{v:g}" for v in values)


def check_batch(inputs: list[Any], y: Any) -> list[Finding]:
    """Findings about the arrays themselves."""
    found: list[Finding] = []
    for i, x in enumerate(inputs):
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f" or not x.size:
            continue
        bad = ~np.isfinite(x)
        if bad.any():
            where = [int(k) for k in np.argwhere(bad)[0]]
            found.append(
                Finding(
                    "nonfinite-input",
                    "the input batch holds NaN or Inf",
                    f"{int(bad.sum())} of {x.size} entries, first input{i if len(inputs) > 1 else ''}{where} = "
                    f"{x[tuple(where)]}",
                    "one NaN in a row makes every output, the loss and every gradient NaN: NaN · w = NaN.",
                    "x = torch.nan_to_num(x)   # better: find the rows that it comes from and mend the data",
                    confidence=1.0,
                    stage="data",
                )
            )
        elif len(x) >= 2 and (x == x[:1]).all():
            found.append(
                Finding(
                    "constant-input",
                    "all rows of the input are the same",
                    f"{len(x)} rows, each equal to the first; RMS {np.sqrt(np.mean(x.astype(np.float64) ** 2)):.3g}",
                    "the network sees one and the same input for every label, so it can learn no more than the "
                    "labels' frequencies.",
                    "print(x.std(dim=0))   # then mend what loads or scales x: no column varies",
                    confidence=0.98,
                    stage="data",
                )
            )
    if isinstance(y, np.ndarray) and y.dtype.kind == "f" and y.size and not np.isfinite(y).all():
        found.append(
            Finding(
                "nonfinite-input",
                "the targets hold NaN or Inf",
                f"{int((~np.isfinite(y)).sum())} of {y.size} entries",
                "the loss of such a row is NaN, and so is the mean over the batch.",
                "mask = torch.isfinite(y)   # and train on x[mask], y[mask]",
                confidence=1.0,
                stage="data",
            )
        )
    return found


def check_labels(y: Any, classes: int | None, n: int) -> list[Finding]:
    """Class labels: one class only, out of range."""
    found: list[Finding] = []
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "iu" or not y.size:
        return found
    values = np.unique(y[y != -100])
    if classes is not None and values.size and (values.min() < 0 or values.max() >= classes):
        low, high = int(values.min()), int(values.max())
        if low >= 1 and high == classes:
            cause, fix = f"the labels count from 1, class numbers count from 0: {high} has no output.", "y = y - 1"
        elif low < 0 and classes + low >= 0 and set(values.tolist()) <= {-1, 1}:
            cause, fix = "labels −1 and +1 are no class numbers.", "y = (y + 1) // 2"
        elif low < 0:
            cause, fix = (
                f"{low} is no class number.",
                "y = y - y.min()   # if the numbers are shifted; otherwise drop those rows",
            )
        else:
            cause, fix = (
                f"the network has {classes} outputs, so the largest class number is {classes - 1}.",
                f"nn.Linear(…, {high + 1})   # as many outputs as classes",
            )
        found.append(
            Finding(
                "label-range",
                "labels out of range",
                f"labels go from {low} to {high}, the network has {classes} outputs",
                cause,
                fix,
                confidence=0.99,
                stage="data",
                numbers={"low": low, "high": high, "classes": classes},
            )
        )
    if (
        values.size == 1
        and y.size > 1
        and (classes is None or classes > 1)
        and float(classes or 2) ** (1 - y.size) < 1e-3
    ):
        found.append(
            Finding(
                "one-class",
                "the batch holds one class only",
                f"all {n} labels are {int(values[0])}",
                "a network that always answers this class has loss 0: nothing else is learned.",
                "DataLoader(data, shuffle=True)   # the rows are probably sorted by class",
                confidence=0.9,
                stage="data",
            )
        )
    return found


def check_inputs(a: Any, layer: str, n: int, raw: bool) -> list[Finding]:
    """Scale of what reaches the first weights: (rows, features) or images."""
    if not isinstance(a, np.ndarray) or a.dtype.kind != "f" or a.ndim < 2 or len(a) < 4 or not np.isfinite(a).all():
        return []
    x = a.astype(np.float64)
    if x.ndim > 2:  # images and sequences: channels share a scale
        x = x.reshape(len(x), -1)
        columns = False
    else:
        columns = True
    scale = np.sqrt(np.mean(x**2, axis=0))
    spread = x.std(axis=0)
    live = spread > 1e-12 * (scale + 1e-300)
    if not live.any():
        return []
    overall = float(np.sqrt(np.mean(x[:, live] ** 2)))
    offset = np.abs(x.mean(axis=0))[live] / spread[live]
    median = float(np.median(scale[live]))
    largest = float(scale[live].max())
    evidence = f"RMS {overall:.3g}, mean {x.mean():.3g}, deviation {x.std():.3g}"
    cause = ""
    if overall > 9:
        cause = (
            f"inputs of size {overall:.3g} make pre-activations {overall:.0f} times as large as the "
            "initialisation is made for, and gradients of the first weights too."
        )
    elif overall < 0.01:
        cause = (
            "inputs this small hardly move the first layer: its biases decide, and its weights' gradients are as "
            "small as the inputs."
        )
    elif columns and live.sum() >= 3 and largest > 50 * median and largest > 5:
        cause = (
            f"the largest feature is {largest / median:.0f} times the typical one, so its weight takes all the "
            "learning rate allows and the others stand still."
        )
        evidence += f"; feature sizes from {scale[live].min():.3g} to {largest:.3g}"
    elif float(np.median(offset)) > 8 and overall > 0.5:
        cause = (
            f"the features' mean is {np.median(offset):.0f} times their deviation: all rows look alike to the "
            "network, and its loss surface is a narrow valley."
        )
        evidence += f"; mean/deviation {np.median(offset):.3g}"
    if not cause:
        return []
    return [
        Finding(
            "input-scale",
            "inputs are not standardised",
            evidence,
            cause,
            "x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)   # mean and deviation of the training rows",
            layer=layer,
            confidence=0.9,
            stage="data",
            numbers={"rms": overall, "raw": raw},
        )
    ]


# --- do inputs and labels belong together? ----------------------------------------------------------------------------


def _structured(x: np.ndarray[Any, Any]) -> bool:
    """Whether the rows have more structure than independent noise: a largest correlation eigenvalue above the
    noise edge."""
    spread = x.std(axis=0)
    z = (x - x.mean(axis=0))[:, spread > 1e-9] / spread[spread > 1e-9]
    n, d = z.shape
    if d < 2:
        return False
    s = np.linalg.svd(z / np.sqrt(n), compute_uv=False)
    edge = (1 + np.sqrt(d / n)) ** 2
    return float(s[0] ** 2) > 1.6 * edge


def related(x: Any, y: Any, seed: int = 0) -> tuple[float, float] | None:
    """How far above chance inputs predict targets, in standard deviations of shuffled targets.

    Returns (z of the best of two predictors, its score), or None when it cannot be told: few rows, rows that are
    noise, targets that are no labels or numbers. The predictors: agreement with the 5 nearest rows, and the
    leave-one-out error of a ridge regression.
    """
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray) or x.dtype.kind not in "f" or len(x) < 48:
        return None
    n = min(len(x), 400)
    x = x[:n].reshape(n, -1).astype(np.float64)
    y = np.asarray(y)[:n]
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.dtype.kind == "f" and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
        y = y.argmax(axis=1)
    if y.ndim != 1 or len(y) != n or not np.isfinite(x).all() or len(np.unique(y)) < 2:
        return None
    if x.shape[1] > 2048:
        x = x[:, np.linspace(0, x.shape[1] - 1, 2048).astype(int)]
    if not _structured(x):
        return None
    classes = y.dtype.kind in "iub" or len(np.unique(y)) <= 10
    if classes and len(np.unique(y)) > n // 4:
        return None
    t = np.eye(len(np.unique(y)))[np.unique(y, return_inverse=True)[1]] if classes else y[:, None].astype(np.float64)
    if not np.isfinite(t).all():
        return None
    spread = x.std(axis=0)
    overall = spread[spread > 0].mean() if (spread > 0).any() else 1.0
    z = (x - x.mean(axis=0)) / (spread + 0.1 * overall)
    d = ((z[:, None, :] - z[None, :, :]) ** 2).sum(-1) if n * n * z.shape[1] < 5e6 else _distances(z)
    np.fill_diagonal(d, np.inf)
    near = np.argsort(d, axis=1)[:, :5]
    k = z @ z.T
    h = k @ np.linalg.inv(k + np.trace(k) / n * np.eye(n))
    lever = 1 - np.diag(h)[:, None]
    rng = np.random.default_rng(seed)

    def scores(t: np.ndarray[Any, Any]) -> tuple[float, float]:
        c = t - t.mean(axis=0)
        neighbours = c[near].mean(axis=1)
        knn = float((neighbours * c).sum())
        rest = (c - h @ c) / lever
        return knn, -float((rest**2).sum())

    real = scores(t)
    null = np.array([scores(t[rng.permutation(n)]) for _ in range(60)])
    deviation = (np.array(real) - null.mean(axis=0)) / (null.std(axis=0) + 1e-30)
    return float(deviation.max()), float(real[0])


def _distances(z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    s = (z**2).sum(axis=1)
    return s[:, None] + s[None] - 2 * z @ z.T


def check_relation(x: Any, y: Any) -> list[Finding]:
    """Labels that have nothing to do with the inputs."""
    got = related(x, y)
    if got is None or got[0] > 3.0:
        return []
    return [
        Finding(
            "shuffled-labels",
            "the labels look unrelated to the inputs",
            f"neighbours and a linear fit predict the labels {got[0]:.1f} deviations better than shuffled labels "
            "(a real relation has 5 and more)",
            "if inputs and labels were shuffled apart, no network beats the base rate on new rows.",
            "order = torch.randperm(len(x)); x, y = x[order], y[order]   # one order for both",
            confidence=0.8 if got[0] < 1.5 else 0.6,
            stage="data",
            numbers={"z": got[0]},
        )
    ]
