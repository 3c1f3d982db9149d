"""Learning to learn sines: the inner step's gradient is differentiated through, by hand and by functional_call."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start
from torch.func import functional_call

rng = np.random.default_rng(0)
net = same_start(nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1)), scale=1.5)
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)


def task(phase, amplitude):
    x = torch.from_numpy(rng.uniform(-3, 3, (20, 1)).astype("float32"))
    return x, amplitude * torch.sin(x + phase)


losses = []
for step in range(25):
    optimizer.zero_grad()
    outer = 0.0
    for _ in range(3):
        x, y = task(rng.uniform(0, 1), rng.uniform(0.5, 2))
        params = dict(net.named_parameters())
        for _ in range(2):
            inner = F.mse_loss(functional_call(net, params, (x[:10],)), y[:10])
            grads = torch.autograd.grad(inner, tuple(params.values()), create_graph=True)
            params = {k: w - 0.05 * g for (k, w), g in zip(params.items(), grads)}
        outer = outer + F.mse_loss(functional_call(net, params, (x[10:],)), y[10:])
    outer.backward()
    optimizer.step()
    losses.append(outer.item())
    if step % 6 == 0:
        print(step, outer.item(), net[0].weight.grad.norm().item())
assert sum(losses[-5:]) < sum(losses[:5])
