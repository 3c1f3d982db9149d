"""Eager training steps beyond the MLP: recurrent, normalised, convolutional and attention networks, against PyTorch.

    python -m benchmarks.layers                 # needs the `parity` extra (torch) beside chainrule
    python -m benchmarks.layers --only LSTM     # the workloads whose name contains this

One step is forward, loss, backward and an optimizer's update, written as people write it and run by both libraries from
the same weights on the same data. The losses of the first 20 steps must agree before anything is timed. One thread.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .harness import Worker, measure

STEPS_CHECKED = 20


def _recurrent(kind: str, hidden: int) -> Callable[[Any, Any], Any]:
    def build(torch: Any, rng: np.random.Generator) -> Any:
        nn = torch.nn

        class Net(nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.rnn = getattr(nn, kind)(8, hidden, batch_first=True)
                self.head = nn.Linear(hidden, 4)

            def forward(self, x: Any) -> Any:
                out, _ = self.rnn(x)
                return self.head(out[:, -1])

        x = rng.normal(size=(16, 30, 8)).astype(np.float32)
        return Net(), torch.from_numpy(x), torch.from_numpy(rng.integers(0, 4, 16))

    return build


def _norm_mlp(torch: Any, rng: np.random.Generator) -> Any:
    nn = torch.nn
    model = nn.Sequential(
        nn.Linear(32, 64),
        nn.BatchNorm1d(64),
        nn.GELU(),
        nn.Linear(64, 64),
        nn.LayerNorm(64),
        nn.GELU(),
        nn.Linear(64, 8),
    )
    x = rng.normal(size=(64, 32)).astype(np.float32)
    return model, torch.from_numpy(x), torch.from_numpy(rng.integers(0, 8, 64))


def _encoder(torch: Any, rng: np.random.Generator) -> Any:
    nn = torch.nn

    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(64, 4, dim_feedforward=128, dropout=0.0, batch_first=True)
            self.head = nn.Linear(64, 4)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(x).mean(1))

    x = rng.normal(size=(8, 32, 64)).astype(np.float32)
    return Net(), torch.from_numpy(x), torch.from_numpy(rng.integers(0, 4, 8))


def _lenet(torch: Any, rng: np.random.Generator) -> Any:
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    x = rng.normal(size=(32, 1, 28, 28)).astype(np.float32)
    return model, torch.from_numpy(x), torch.from_numpy(rng.integers(0, 10, 32))


def _cnn_norm(torch: Any, rng: np.random.Generator) -> Any:
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    x = rng.normal(size=(32, 1, 8, 8)).astype(np.float32)
    return model, torch.from_numpy(x), torch.from_numpy(rng.integers(0, 10, 32))


def _character_transformer(torch: Any, rng: np.random.Generator) -> Any:
    nn = torch.nn
    functional = nn.functional
    vocabulary, width, heads, length = 65, 32, 4, 32

    class Attention(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width)
            self.register_buffer("mask", torch.tril(torch.ones(length, length)))

        def forward(self, x: Any) -> Any:
            b, t, c = x.shape
            q, k, v = self.qkv(x).split(c, dim=2)
            q, k, v = (a.view(b, t, heads, c // heads).transpose(1, 2) for a in (q, k, v))
            scores = q @ k.transpose(-2, -1) * (c // heads) ** -0.5
            scores = scores.masked_fill(self.mask[:t, :t] == 0, float("-inf"))
            y = functional.softmax(scores, dim=-1) @ v
            return self.out(y.transpose(1, 2).contiguous().view(b, t, c))

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attention = Attention()
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.ln1(x))
            return x + self.mlp(self.ln2(x))

    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
            self.blocks = nn.Sequential(Block(), Block())
            self.ln = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary)

        def forward(self, ids: Any) -> Any:
            x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
            return self.head(self.ln(self.blocks(x))).view(-1, vocabulary)

    text = rng.integers(0, vocabulary, (8, length + 1))
    return Net(), torch.from_numpy(text[:, :-1].copy()), torch.from_numpy(text[:, 1:].reshape(-1).copy())


WORKLOADS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "RNN, T30 B16 H32": (_recurrent("RNN", 32), "SGD"),
    "GRU, T30 B16 H32": (_recurrent("GRU", 32), "SGD"),
    "LSTM, T30 B16 H32": (_recurrent("LSTM", 32), "SGD"),
    "LSTM, T30 B16 H128": (_recurrent("LSTM", 128), "SGD"),
    "MLP, BatchNorm LayerNorm GELU": (_norm_mlp, "Adam"),
    "Transformer encoder layer 8x32x64": (_encoder, "Adam"),
    "LeNet, B32 28x28": (_lenet, "SGD"),
    "CNN with BatchNorm, B32 8x8": (_cnn_norm, "Adam"),
    "Character transformer, 2 layers": (_character_transformer, "AdamW"),
}


def prepare(library: str, workload: str) -> Callable[[], Any]:
    """The step in ``library``; weights are drawn by NumPy in the order of the parameters' names."""
    if library == "torch":
        import torch

        torch.set_num_threads(1)
    else:
        import chainrule as torch
    build, optimizer_name = WORKLOADS[workload]
    rng = np.random.default_rng(0)
    model, inputs, targets = build(torch, rng)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            fan = parameter.shape[-1] if parameter.ndim > 1 else 16
            values = rng.uniform(-1, 1, tuple(parameter.shape)) / np.sqrt(fan) + (".ln" in name) * 1.0
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    optimizer = getattr(torch.optim, optimizer_name)(model.parameters(), lr=0.01 if optimizer_name == "SGD" else 1e-3)
    cross_entropy = torch.nn.functional.cross_entropy

    def step() -> Any:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=11, help="turns per library and workload")
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a turn")
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    workers = [Worker(name, "benchmarks.layers") for name in ("chainrule", "torch")]
    rows: list[dict[str, Any]] = []
    print(f"{'one training step':<36} {'chainrule':>11} {'PyTorch':>11}   PyTorch/ours")
    try:
        for workload in WORKLOADS:
            if arguments.only.lower() not in workload.lower():
                continue
            result = measure(
                workers, workload, "chainrule", blocks=arguments.blocks, seconds=arguments.seconds, check=STEPS_CHECKED
            )
            np.testing.assert_allclose(
                result.losses["chainrule"], result.losses["torch"], rtol=1e-4, err_msg=f"{workload}: losses differ"
            )
            us = {name: f"{1e6 * s:.0f} µs" for name, s in result.seconds.items()}
            ratio = result.ratios["torch"]
            print(f"{workload:<36} {us['chainrule']:>11} {us['torch']:>11}   {ratio:>11.2f}×", flush=True)
            rows.append({"workload": workload, "seconds": result.seconds, "ratios": result.ratios})
    finally:
        for worker in workers:
            worker.close()
    if arguments.json:
        arguments.json.write_text(json.dumps({"steps": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
