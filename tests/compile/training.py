"""Random training steps: a network of random layers, a loss, an optimizer with random settings, clipping."""

from dataclasses import dataclass

import numpy as np
from tests.compile.test_optimizers import SETTINGS

import chainrule as torch

nn, F = torch.nn, torch.nn.functional
LAYERS = {
    "linear": lambda n, m: (nn.Linear(n, m), m), "bare": lambda n, m: (nn.Linear(n, m, bias=False), m),
    "tanh": lambda n, m: (nn.Tanh(), n), "silu": lambda n, m: (nn.SiLU(), n), "gelu": lambda n, m: (nn.GELU(), n),
    "softplus": lambda n, m: (nn.Softplus(), n), "layer norm": lambda n, m: (nn.LayerNorm(n), n),
    "dropout": lambda n, m: (nn.Dropout(0.2), n), "rms norm": lambda n, m: (nn.RMSNorm(n), n),
    "conv": lambda n, m: (nn.Sequential(nn.Unflatten(1, (1, n)), nn.Conv1d(1, 2, 3, padding=1), nn.Flatten()), 2 * n),
    "lstm": lambda n, m: (Last(n, m), m), "glu": lambda n, m: (nn.Sequential(nn.Linear(n, 2 * m), nn.GLU()), m),
}  # fmt: skip
LOSSES = {
    "cross entropy": lambda out, y: F.cross_entropy(out, y),
    "smoothed": lambda out, y: F.cross_entropy(out, y, label_smoothing=0.1),
    "mse": lambda out, y: F.mse_loss(out, F.one_hot(y, out.shape[1]).to(out.dtype)),
    "huber": lambda out, y: F.huber_loss(out, F.one_hot(y, out.shape[1]).to(out.dtype)),
    "logits": lambda out, y: F.binary_cross_entropy_with_logits(out, F.one_hot(y, out.shape[1]).to(out.dtype)),
}
OPTIMIZERS = [(name, options) for name, several in SETTINGS.items() for options in several]


class Last(nn.Module):
    """An LSTM over the features as a sequence of single numbers; its last output."""

    def __init__(self, n, m):
        super().__init__()
        self.lstm = nn.LSTM(1, m, batch_first=True)

    def forward(self, x):
        return self.lstm(x.unsqueeze(-1))[0][:, -1]


@dataclass(frozen=True)
class Training:
    """A training step as plain data: layers (name, width), the loss, the optimizer's number, batch, classes, seed."""

    layers: tuple
    loss: str
    optimizer: int
    clip: bool
    features: int
    batch: int
    classes: int
    seed: int


def make_training(number):
    names, losses = list(LAYERS), list(LOSSES)
    layers = tuple((names[number(len(names))], 1 + number(9)) for _ in range(1 + number(4)))
    return Training(layers, losses[number(len(losses))], number(len(OPTIMIZERS)), bool(number(2)), 1 + number(9),
                    1 + number(9), 2 + number(5), number(2**31))  # fmt: skip


def trained(case, compiled, steps=3):
    """Losses and parameters of a few steps in float64, where eager and compiled order of additions cannot be told apart
    but by the last digits."""
    torch.manual_seed(case.seed)
    width, parts = case.features, []
    for name, m in case.layers:
        layer, width = LAYERS[name](width, m)
        parts.append(layer)
    net = nn.Sequential(*parts, nn.Linear(width, case.classes)).double()
    name, options = OPTIMIZERS[case.optimizer]
    opt = getattr(torch.optim, name)(net.parameters(), lr=0.01, **options)
    rng = np.random.default_rng(case.seed)

    def step(x, y):
        opt.zero_grad()
        loss = LOSSES[case.loss](net(x), y)
        loss.backward()
        if case.clip:
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        opt.step()
        return loss

    call = torch.compile(step) if compiled else step
    losses = []
    for k in range(steps):
        x, y = rng.normal(size=(case.batch, case.features)), rng.integers(0, case.classes, case.batch)
        losses.append(call(torch.tensor(x), torch.tensor(y)).item())
        if k == 1:
            opt.param_groups[0]["lr"] = 0.003
    return losses, [p.detach().numpy() for p in net.parameters()]
