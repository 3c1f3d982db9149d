"""Twenty layers: how much gradient reaches the first, with sigmoid, ReLU, residual connections and batch norm."""

import chainrule as torch
from chainrule import nn

DEPTH, WIDTH = 20, 32


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


def deep(layer):
    return nn.Sequential(*(layer() for _ in range(DEPTH)), nn.Linear(WIDTH, 1))


def linear(scale=None):
    made = nn.Linear(WIDTH, WIDTH)
    if scale == "he":
        nn.init.kaiming_normal_(made.weight)
    return made


networks = {
    "sigmoid": lambda: nn.Sequential(linear(), nn.Sigmoid()),
    "ReLU, default init": lambda: nn.Sequential(linear(), nn.ReLU()),
    "ReLU, He init": lambda: nn.Sequential(linear("he"), nn.ReLU()),
    "ReLU, batch norm": lambda: nn.Sequential(linear(), nn.BatchNorm1d(WIDTH), nn.ReLU()),
    "sigmoid, residual": lambda: Residual(nn.Sequential(linear(), nn.Sigmoid())),
}
x = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(0))
share = {}
for name, layer in networks.items():
    torch.manual_seed(1)
    net = deep(layer)
    net(x).square().mean().backward()
    weights = [m.weight.grad.norm().item() for m in net.modules() if isinstance(m, nn.Linear)]
    share[name] = weights[0] / weights[DEPTH - 1]
    print(f"{name:<20} |gradient of layer 1| / |gradient of layer {DEPTH}| = {share[name]:.1e}")

# Each sigmoid multiplies the gradient by σ′ ≤ 1/4, twenty times over.
assert share["sigmoid"] < 1e-10 < 1e-3 < min(share["ReLU, He init"], share["sigmoid, residual"])
