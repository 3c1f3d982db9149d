"""Small networks of four kinds, written once for chainrule and PyTorch: ``tb`` is the library."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.data import load_diabetes, load_digits

__all__ = ["Case", "Given", "cnn", "digits", "he", "mlp", "recurrent", "transformer"]


@dataclass
class Given:
    """The arguments of one diagnosis."""

    model: Any
    loss: Any
    batch: Any
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Case:
    """A network and what should be found: ``expected`` are the codes that count as right (empty: healthy)."""

    name: str
    library: str
    expected: tuple[str, ...]
    build: Any


@functools.cache
def _digits() -> tuple[Any, Any]:
    table = load_digits()
    x = (table.x.astype(np.float32) - 4.88) / 6.0
    return x.astype(np.float32), np.asarray(table.y).astype(np.int64)


@functools.cache
def _diabetes() -> tuple[Any, Any]:
    table = load_diabetes()
    x, y = table.x.astype(np.float64), np.asarray(table.y).astype(np.float64)
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)


def digits(tb: Any, n: int = 128, shape: str = "flat", seed: int = 0) -> tuple[Any, Any]:
    """n random rows: "flat" (n, 64), "image" (n, 1, 8, 8) or "rows" (n, 8, 8)."""
    x, y = _digits()
    rows = np.random.default_rng(seed).permutation(len(x))[:n]
    x = x[rows]
    x = {"flat": x, "image": x.reshape(-1, 1, 8, 8), "rows": x.reshape(-1, 8, 8)}[shape]
    return tb.from_numpy(np.ascontiguousarray(x)), tb.from_numpy(y[rows])


def diabetes(tb: Any, n: int = 128, column: bool = True) -> tuple[Any, Any]:
    """n rows: (n, 10) and (n, 1) or (n,)."""
    x, y = _diabetes()
    return tb.from_numpy(x[:n].copy()), tb.from_numpy(y[:n, None].copy() if column else y[:n].copy())


def he(tb: Any, model: Any, nonlinearity: str = "relu") -> Any:
    """He's (Xavier's for tanh) initialisation."""
    for m in model.modules():
        if type(m).__name__ in ("Linear", "Conv2d"):
            if nonlinearity == "relu":
                tb.nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            else:
                tb.nn.init.xavier_normal_(m.weight)
            tb.nn.init.zeros_(m.bias)
    return model


def mlp(
    tb: Any,
    act: str = "ReLU",
    depth: int = 2,
    width: int = 64,
    n_in: int = 64,
    n_out: int = 10,
    norm: str = "",
    drop: float = 0.0,
) -> Any:
    """Linear (norm) activation (dropout), ``depth`` times, and a linear head."""
    nn = tb.nn
    layers: list[Any] = []
    for i in range(depth):
        layers.append(nn.Linear(n_in if i == 0 else width, width))
        if norm:
            layers.append(getattr(nn, norm)(width))
        layers.append(getattr(nn, act)())
        if drop:
            layers.append(nn.Dropout(drop))
    return nn.Sequential(*layers, nn.Linear(width, n_out))


def cnn(tb: Any, act: str = "ReLU", channels: int = 8, depth: int = 2, norm: bool = False) -> Any:
    """3×3 convolutions on 8×8 images, a max pool, a linear head."""
    nn = tb.nn
    layers: list[Any] = []
    for i in range(depth):
        layers.append(nn.Conv2d(1 if i == 0 else channels, channels, 3, padding=1))
        if norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(getattr(nn, act)())
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(channels * 16, 10))


def recurrent(tb: Any, kind: str = "GRU", hidden: int = 32) -> Any:
    """A recurrent layer over the 8 rows of an image, and a head on the last state."""

    class Reader(tb.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(tb.nn, kind)(8, hidden, batch_first=True)
            self.head = tb.nn.Linear(hidden, 10)

        def forward(self, x: Any) -> Any:
            out, _ = self.rnn(x)
            return self.head(out[:, -1])

    return Reader()


def handmade(tb: Any, hidden: int = 32, steps: int = 8, act: str = "tanh", repeat: int = 1) -> Any:
    """A recurrent network written out: h = act(W x + U h)."""

    class Cell(tb.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tb.nn.Linear(8, hidden)
            self.back = tb.nn.Linear(hidden, hidden)
            self.head = tb.nn.Linear(hidden, 10)

        def forward(self, x: Any) -> Any:
            h = tb.zeros(x.shape[0], hidden)
            for _ in range(repeat):
                for t in range(steps):
                    h = getattr(tb, act)(self.inner(x[:, t]) + self.back(h))
            return self.head(h)

    return Cell()


def transformer(
    tb: Any, depth: int = 2, width: int = 32, pre_norm: bool = True, residual: bool = True, norm: bool = True
) -> Any:
    """Blocks of single-head attention and an MLP over the 8 rows of an image, mean pooling, a head."""
    nn = tb.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
            self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
            self.act = nn.GELU()
            self.n1 = nn.LayerNorm(width) if norm else nn.Identity()
            self.n2 = nn.LayerNorm(width) if norm else nn.Identity()

        def attend(self, x: Any) -> Any:
            scores = self.q(x) @ self.k(x).transpose(1, 2) / width**0.5
            return self.o(tb.softmax(scores, dim=-1) @ self.v(x))

        def forward(self, x: Any) -> Any:
            if not residual:
                x = self.attend(self.n1(x))
                return self.down(self.act(self.up(self.n2(x))))
            if pre_norm:
                x = x + self.attend(self.n1(x))
                return x + self.down(self.act(self.up(self.n2(x))))
            x = self.n1(x + self.attend(x))
            return self.n2(x + self.down(self.act(self.up(x))))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(8, width)
            self.position = nn.Parameter(0.02 * tb.randn(8, width))
            self.blocks = nn.Sequential(*[Block() for _ in range(depth)])
            self.norm = nn.LayerNorm(width) if norm else nn.Identity()
            self.head = nn.Linear(width, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.norm(self.blocks(self.embed(x) + self.position)).mean(1))

    return Net()


def resnet(tb: Any, depth: int = 12, width: int = 32, act: str = "ReLU", scale: float = 1.0) -> Any:
    """A residual MLP with layer norm in its branches."""
    nn = tb.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(width)
            self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)
            self.act = getattr(nn, act)()

        def forward(self, x: Any) -> Any:
            return x + scale * self.b(self.act(self.a(self.norm(x))))

    return nn.Sequential(
        nn.Linear(64, width), *[Block() for _ in range(depth)], nn.LayerNorm(width), nn.Linear(width, 10)
    )
