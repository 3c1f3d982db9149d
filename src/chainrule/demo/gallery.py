"""The demos: how each network is built, what is measured, and what it shows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import chainrule as torch

from .. import nn
from ..data import load_digits
from ..diagnose.budget import budget_of
from ..diagnose.flow_checks import dead_units, saturation
from ..diagnose.subject import Subject

__all__ = ["DEMOS", "Demo", "Outcome", "run_demo"]

F = nn.functional


@dataclass
class Side:
    """One of the two networks, while it trains."""

    name: str
    model: Any
    lr: float = 0.05
    optimizer: str = "sgd"
    clip: float | None = None
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    flow: list[float] = field(default_factory=list)
    """‖δ‖ at each layer at the start, first layer first, relative to the last."""
    accuracy: float = 0.0
    extra: list[float] = field(default_factory=list)
    note: str = ""


@dataclass
class Outcome:
    """What a demo measured."""

    name: str
    title: str
    ill: Side
    cured: Side
    sentences: tuple[str, str, str]
    panels: list[tuple[str, str, dict[str, list[float]], bool]]
    seconds: float

    def svg(self) -> str:
        """The picture as SVG."""
        from ..diagnose.svg import lines_svg

        return lines_svg(self.panels, self.title, self.sentences)

    def __str__(self) -> str:
        from .picture import terminal

        return terminal(self)


@dataclass
class Demo:
    """``make()`` gives the ill and the cured network; ``tell`` the picture's panels and the three sentences."""

    title: str
    make: Callable[[], tuple[Side, Side]]
    tell: Callable[[Side, Side], tuple[list[tuple[str, str, dict[str, list[float]], bool]], tuple[str, str, str]]]
    steps: int = 300
    batch: int = 64


def digits() -> tuple[Any, Any, Any, Any]:
    """Training and test rows, standardised."""
    table = load_digits()
    x = ((table.x - 4.88) / 6.0).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], np.asarray(table.y)[order].astype(np.int64)
    return x[:1400], y[:1400], x[1400:], y[1400:]


def mlp(act: Any, depth: int, width: int = 32, norm: Any = None, init: str = "") -> Any:
    """A deep, narrow network."""
    layers: list[Any] = []
    for i in range(depth):
        linear = nn.Linear(64 if i == 0 else width, width)
        if init == "he":
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        layers.append(linear)
        if norm is not None:
            layers.append(norm(width))
        layers.append(act())
    return nn.Sequential(*layers, nn.Linear(width, 10))


class Block(nn.Module):
    """x + f(x), or f(x) alone."""

    def __init__(self, width: int, skip: bool, scale: float = 1.0) -> None:
        super().__init__()
        self.f = nn.Linear(width, width)
        if skip:
            nn.init.xavier_normal_(self.f.weight)
            nn.init.zeros_(self.f.bias)
        self.skip, self.scale = skip, scale

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.f(x))
        return x + self.scale * h if self.skip else h


def _scaled(model: Any, factor: float) -> Any:
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.Linear):
                m.weight.mul_(factor)
    return model


def train(side: Side, data: tuple[Any, Any, Any, Any], steps: int, batch: int) -> None:
    """SGD (or Adam) on random batches; keeps the loss and the gradient's norm of every step."""
    x, y, xt, yt = data
    kinds = {
        "sgd": lambda p: torch.optim.SGD(p, lr=side.lr),
        "momentum": lambda p: torch.optim.SGD(p, lr=side.lr, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=side.lr),
    }
    optimizer = kinds[side.optimizer](list(side.model.parameters()))
    rng = np.random.default_rng(1)
    side.model.train()
    for _ in range(steps):
        rows = rng.integers(0, len(x), batch)
        optimizer.zero_grad()
        loss = F.cross_entropy(side.model(torch.from_numpy(x[rows])), torch.from_numpy(y[rows]))
        value = loss.item()
        side.losses.append(value)
        if not math.isfinite(value):
            side.norms.append(math.inf)
            break
        loss.backward()
        limit = math.inf if side.clip is None else side.clip
        side.norms.append(float(nn.utils.clip_grad_norm_(side.model.parameters(), limit)))
        optimizer.step()
    side.model.eval()
    with torch.no_grad():
        guess = side.model(torch.from_numpy(xt)).numpy()
    side.accuracy = float((guess.argmax(axis=1) == yt).mean()) if np.isfinite(guess).all() else 0.0


def measure(side: Side, data: tuple[Any, Any, Any, Any]) -> Any:
    """The gradient-flow budget at the start; fills ``side.flow``."""
    x, y = torch.from_numpy(data[0][:256]), torch.from_numpy(data[1][:256])
    subject = Subject(side.model, F.cross_entropy, (x, y))
    with subject.untouched():
        tape = subject.record(subject.copy()[0])
    budget = budget_of(tape)
    side.flow = [math.exp(max(layer.above, -80)) for layer in budget.layers] if budget else []
    side.extra = [
        max((saturation(s) for s in tape.steps), default=0.0),
        max((d[0] for d in map(dead_units, tape.steps) if d), default=0.0),
    ]
    return budget


def smooth(values: list[float], k: int = 8) -> list[float]:
    """A running mean, for drawing."""
    out: list[float] = []
    for i in range(len(values)):
        part = [v for v in values[max(0, i - k + 1) : i + 1] if math.isfinite(v)]
        out.append(float(np.mean(part)) if part else math.nan)
    return out


def _two(a: Side, b: Side) -> list[tuple[str, str, dict[str, list[float]], bool]]:
    wild = max((v for v in a.losses if math.isfinite(v)), default=0.0) > 30
    return [
        ("gradient |δ| at each layer, before training", "layer (first … last)", {a.name: a.flow, b.name: b.flow}, True),
        ("training loss", "step", {a.name: a.losses if wild else smooth(a.losses), b.name: smooth(b.losses)}, wild),
    ]


def _end(side: Side) -> str:
    tail = [v for v in side.losses[-20:] if math.isfinite(v)]
    if len(side.losses) and not math.isfinite(side.losses[-1]):
        return f"NaN after {len(side.losses)} steps"
    return f"{np.mean(tail):.3g}"


def _result(a: Side, b: Side) -> str:
    return (
        f"After the same {len(b.losses)} steps the loss is {_end(a)} against {_end(b)}, the accuracy on unseen "
        f"digits {a.accuracy:.0%} against {b.accuracy:.0%}."
    )


def _ratio(side: Side) -> str:
    r = side.flow[0] / side.flow[-1] if side.flow and side.flow[-1] else math.nan
    return f"{r:.1e}" if r < 0.01 or r > 100 else f"{r:.2g}"


def _vanishing() -> tuple[Side, Side]:
    return Side("12 × sigmoid", mlp(nn.Sigmoid, 12), lr=0.1), Side("12 × ReLU, He", mlp(nn.ReLU, 12, init="he"), lr=0.1)


def _tell_vanishing(a: Side, b: Side) -> Any:
    per = (a.flow[0] / a.flow[-1]) ** (1 / (len(a.flow) - 1))
    return _two(a, b), (
        (
            f"σ′(x) = σ(x)(1 − σ(x)) is at most 1/4, and times a small weight matrix every layer keeps only {per:.2g} "
            f"of the gradient: {_ratio(a)} is left at the first."
        ),
        (
            "ReLU's derivative is 1 where a unit is on, and He's weights (variance 2/fan-in) make up for those that "
            "are off: the product stays near 1."
        ),
        _result(a, b),
    )


def _exploding() -> tuple[Side, Side]:
    return (
        Side("weights × 2.5 of He", _scaled(mlp(nn.ReLU, 12, init="he"), 2.5), lr=0.02),
        Side("He's weights", mlp(nn.ReLU, 12, init="he"), lr=0.02),
    )


def _tell_exploding(a: Side, b: Side) -> Any:
    per = (a.flow[0] / a.flow[-1]) ** (1 / (len(a.flow) - 1))
    return _two(a, b), (
        (
            f"Every layer multiplies the gradient by {per:.2g}, so after 12 layers it is {_ratio(a)} times as large "
            "at the first layer: one step throws the weights away."
        ),
        (
            "He's initialisation has variance 2/fan-in: exactly what keeps the length of forward signal and backward "
            "gradient through a ReLU layer."
        ),
        _result(a, b),
    )


def _dead() -> tuple[Side, Side]:
    a, b = mlp(nn.ReLU, 3, 48, init="he"), mlp(lambda: nn.LeakyReLU(0.1), 3, 48, init="he")
    with torch.no_grad():
        for m in (a[2], b[2]):
            m.bias.fill_(-8.0)
    return Side("ReLU, biases −8", a, lr=0.1), Side("leaky ReLU, biases −8", b, lr=0.1)


def _tell_dead(a: Side, b: Side) -> Any:
    return _two(a, b), (
        (
            f"With biases of −8 (as one far too large step leaves them) {a.extra[1]:.0%} of the second layer's ReLU "
            "units are off for every digit, and relu′ = 0 there."
        ),
        (
            "A dead unit gets gradient 0, so nothing ever changes it; leaky ReLU keeps a slope (here 0.1) on that "
            "side and lets it come back."
        ),
        _result(a, b),
    )


def _saturation() -> tuple[Side, Side]:
    return (
        Side("tanh, weights × 8", _scaled(mlp(nn.Tanh, 4, 48, init="he"), 8.0), lr=0.05),
        Side("tanh, Xavier", _scaled(mlp(nn.Tanh, 4, 48, init="he"), 0.7), lr=0.05),
    )


def _tell_saturation(a: Side, b: Side) -> Any:
    return _two(a, b), (
        (
            f"Weights 8 times too large push {a.extra[0]:.0%} of a layer's tanh units to ±1, where tanh′ = 1 − tanh² "
            "is nearly 0."
        ),
        (
            f"With Xavier's weights (variance 1/fan-in) the pre-activations stay near ±1 and only {b.extra[0]:.0%} "
            "are saturated."
        ),
        _result(a, b),
    )


def _residual() -> tuple[Side, Side]:
    def net(skip: bool) -> Any:
        depth = 24
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Linear(64, 32), *[Block(32, skip, 1 / math.sqrt(depth)) for _ in range(depth)], nn.Linear(32, 10)
        )

    return Side("24 plain layers", net(False), lr=0.05), Side("24 residual blocks", net(True), lr=0.05)


def _tell_residual(a: Side, b: Side) -> Any:
    s = b.note_spectrum  # type: ignore[attr-defined]
    panels = _two(a, b)
    panels.append(
        (
            f"gradient by branches crossed (of {s.blocks})",
            "branches crossed",
            {"": [], b.name: [float(v) for v in s.shares]},
            False,
        )
    )
    return panels, (
        (
            f"Through 24 plain layers {_ratio(a)} of the gradient arrives; in x + f(x) the derivative is 1 + f′, so "
            f"the 1 carries it past every block: {_ratio(b)}."
        ),
        (
            f"Split by the number of branches crossed, the first layer's gradient is {s.shares[0]:.0%} straight over "
            f"the skips and crosses {s.mean_length:.1f} of {s.blocks} branches on average; the parts add up to .grad."
        ),
        _result(a, b),
    )


def _batchnorm() -> tuple[Side, Side]:
    def small(norm: Any) -> Any:
        torch.manual_seed(2)
        return _scaled(mlp(nn.ReLU, 12, norm=norm), 0.6)

    return Side("weights too small", small(None), lr=0.1), Side(
        "the same with batch norm", small(nn.BatchNorm1d), lr=0.1
    )


def _tell_batchnorm(a: Side, b: Side) -> Any:
    return _two(a, b), (
        (
            f"With weights a third of He's the signal shrinks at every layer, and only {_ratio(a)} of the gradient "
            "arrives at the first."
        ),
        (
            "Batch norm divides each unit by its deviation over the batch: whatever the weights' scale, signal and "
            f"gradient keep their size ({_ratio(b)})."
        ),
        _result(a, b),
    )


class Reader(nn.Module):
    """Reads the 64 pixels of a digit, 8 at a time and three times over, with one set of weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.steps = 16
        self.inner, self.back, self.head = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        nn.init.orthogonal_(self.back.weight)
        with torch.no_grad():
            self.back.weight.mul_(1.7)

    def forward(self, x: Any) -> Any:
        rows = x.reshape(-1, 8, 8)
        h = torch.zeros(rows.shape[0], 32)
        for t in range(self.steps):
            h = torch.tanh(self.inner(rows[:, t % 8]) + self.back(h))
        return self.head(h)


def _clipping() -> tuple[Side, Side]:
    return Side("no clipping", Reader(), lr=0.1, optimizer="momentum"), Side(
        "clipped at norm 1", Reader(), lr=0.1, optimizer="momentum", clip=1.0
    )


def _tell_clipping(a: Side, b: Side) -> Any:
    panels = [
        ("norm of the gradient", "step", {a.name: a.norms, b.name: b.norms}, True),
        ("training loss", "step", {a.name: smooth(a.losses), b.name: smooth(b.losses)}, False),
    ]
    finite = [v for v in a.norms if math.isfinite(v)]
    return panels, (
        (
            "The gradient of a recurrent network is a product of 16 equal matrices: usually of norm "
            f"{np.median(finite):.2g}, but up to {max(finite):.2g}, and one such step undoes hundreds."
        ),
        (
            "Clipping keeps the direction and caps the length: g · min(1, c/‖g‖), so the rare cliff costs one short "
            "step instead of the run."
        ),
        _result(a, b),
    )


DEMOS: dict[str, Demo] = {
    "vanishing": Demo("Vanishing gradients: 12 sigmoid layers", _vanishing, _tell_vanishing, 400),
    "exploding": Demo("Exploding gradients: weights 2.5 times too large", _exploding, _tell_exploding, 300),
    "dead-relu": Demo("Dead ReLU units", _dead, _tell_dead, 400),
    "saturation": Demo("Saturated tanh units", _saturation, _tell_saturation, 300),
    "residual": Demo("Residual connections: a way past 24 layers", _residual, _tell_residual, 300),
    "batchnorm": Demo("Batch norm: any weight scale will do", _batchnorm, _tell_batchnorm, 300),
    "clipping": Demo("Gradient clipping: cliffs of a recurrent network", _clipping, _tell_clipping, 250),
}


def run_demo(name: str, tell: Callable[[str], None] | None = None) -> Outcome:
    """Train both networks of a demo. The random state is as before afterwards.

    >>> outcome = run_demo("dead-relu")
    >>> outcome.cured.accuracy > outcome.ill.accuracy
    True
    """
    demo = DEMOS[name]
    start = time.perf_counter()
    say = tell or (lambda text: None)
    state = torch.get_rng_state()
    try:
        torch.manual_seed(0)
        data = digits()
        ill, cured = demo.make()
        for side in (ill, cured):
            say(f"measuring: {side.name}")
            measure(side, data)
        if name == "residual":
            from ..diagnose.paths import spectrum

            say("path-length spectrum")
            batch = torch.from_numpy(data[0][:128]), torch.from_numpy(data[1][:128])
            cured.note_spectrum = spectrum(cured.model, F.cross_entropy, batch)  # type: ignore[attr-defined]
        for side in (ill, cured):
            say(f"training: {side.name}")
            train(side, data, demo.steps, demo.batch)
        panels, sentences = demo.tell(ill, cured)
    finally:
        torch.set_rng_state(state)
    return Outcome(name, demo.title, ill, cured, sentences, panels, time.perf_counter() - start)
