"""Models and steps in PyTorch's API: one text that PyTorch and chainrule both run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..workloads import CONTEXT, HEADS, LAYERS, LR, VOCABULARY, WIDTH, Workload, data, fill, hvp_vectors, workload

__all__ = ["build", "function", "parts"]


def build(torch: Any, w: Workload) -> Any:
    """The model of a workload, with its start values."""
    model = _model(torch, w)
    named = list(model.named_parameters())
    with torch.no_grad():
        arrays = fill([tuple(p.shape) for _, p in named], [n for n, _ in named])
        for (_, p), a in zip(named, arrays, strict=True):
            p.copy_(torch.from_numpy(a))
    return model


def parts(torch: Any, name: str, **options: Any) -> tuple[Any, Any, Any, Any, Callable[[Any, Any], Any]]:
    """Model, optimizer, input, target and the loss of a training workload; ``options`` go to the optimizer."""
    w, which = workload(name)
    F = torch.nn.functional
    model = build(torch, w)
    make = torch.optim.SGD if which == "sgd" else torch.optim.Adam
    optimizer = make(model.parameters(), lr=LR[which], **options)
    xa, ya = data(w)
    x, y = torch.from_numpy(xa), torch.from_numpy(ya.reshape(-1) if w.loss == "ce" else ya)
    of = F.mse_loss if w.loss == "mse" else F.cross_entropy
    return model, optimizer, x, y, lambda x, y: of(model(x), y)


def function(torch: Any, w: Workload) -> tuple[Callable[[Any], Any], Any]:
    """A function workload and its input."""
    F = torch.nn.functional
    xa, ya = data(w)
    x = torch.from_numpy(xa)
    if w.kind == "hvp":
        nn = torch.nn
        layers: list[Any] = []
        for a, b in zip(w.widths, w.widths[1:], strict=False):
            layers += [nn.Linear(a, b), nn.Tanh()]
        model = nn.Sequential(*layers[:-1])
        y = torch.from_numpy(ya)
        with torch.no_grad():
            values = fill([tuple(p.shape) for p in model.parameters()], ["w"] * len(list(model.parameters())))
            for p, a in zip(model.parameters(), values, strict=True):
                p.copy_(torch.from_numpy(a))
        parameters, vectors = list(model.parameters()), [torch.from_numpy(v) for v in hvp_vectors(w)]

        def hvp(x: Any) -> Any:
            g = torch.autograd.grad(F.cross_entropy(model(x), y), parameters, create_graph=True)
            return torch.autograd.grad(g, parameters, vectors)

        return hvp, x
    n = xa.shape[-1]
    weight, bias = torch.from_numpy(xa[0] if xa.ndim > 1 else xa), torch.from_numpy(xa[1] if xa.ndim > 1 else xa)

    def chain(x: Any) -> Any:
        y = x
        for _ in range(5):
            y = torch.abs(y * 0.9 + x) - 0.1
        return y

    programs: dict[str, Callable[[Any], Any]] = {
        "chain": chain,
        "softmax": lambda x: torch.softmax(x, -1),
        "layernorm": lambda x: F.layer_norm(x, (n,), weight, bias),
    }
    return programs[w.kind], x


def _model(torch: Any, w: Workload) -> Any:
    nn = torch.nn
    F = nn.functional

    class Block(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(n, n), nn.BatchNorm1d(n)

        def forward(self, x: Any) -> Any:
            return x + torch.relu(self.norm(self.linear(x)))

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(64, 64, batch_first=True), nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            out, _ = self.lstm(x)
            return self.head(out[:, -1])

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.qkv, self.proj = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.norm2, self.up, self.down = (
                nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH),
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            b, t, c = x.shape
            q, k, v = self.qkv(self.norm1(x)).reshape(b, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.Sequential(*[Attention() for _ in range(LAYERS)])
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

        def forward(self, x: Any) -> Any:
            x = self.tokens(x) + self.places.weight
            return self.head(self.norm(self.blocks(x))).reshape(-1, VOCABULARY)

    if w.kind == "mlp":
        act = nn.Tanh if w.loss == "mse" else nn.ReLU
        layers: list[Any] = []
        for a, b in zip(w.widths, w.widths[1:], strict=False):
            layers += [nn.Linear(a, b), act()]
        return nn.Sequential(*layers[:-1])
    if w.kind == "residual":
        return nn.Sequential(*[Block(n) for n in w.widths[1:]], nn.Linear(64, 10))
    if w.kind == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip
    return Recurrent() if w.kind == "lstm" else Transformer()
