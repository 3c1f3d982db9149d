"""A network that solves u'' = −π² sin(πx), u(−1) = u(1) = 0: loss on second derivatives, Adam then LBFGS with closure."""

import torch
import torch.nn as nn
from start import same_start


class Net(nn.Module):
    def __init__(self, layers=(1, 16, 16, 1)):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(layers[:-1], layers[1:]))
        self.activation = nn.Tanh()

    def forward(self, x):
        for layer in self.linears[:-1]:
            x = self.activation(layer(x))
        return self.linears[-1](x)


torch.set_default_dtype(torch.float64)
model = same_start(Net(), scale=1.7)
x = torch.linspace(-1, 1, 40).reshape(-1, 1).requires_grad_(True)
boundary = torch.tensor([[-1.0], [1.0]])


def residual_loss():
    u = model(x)
    u_x = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]
    u_xx = torch.autograd.grad(u_x, x, torch.ones_like(u_x), create_graph=True)[0]
    f = u_xx + torch.pi**2 * torch.sin(torch.pi * x)
    return f.pow(2).mean() + 10 * model(boundary).square().mean()


adam = torch.optim.Adam(model.parameters(), lr=1e-2)
losses = []
for step in range(40):
    adam.zero_grad()
    loss = residual_loss()
    loss.backward()
    adam.step()
    losses.append(loss.item())
print(losses[0], losses[-1])
lbfgs = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=15, history_size=20, line_search_fn="strong_wolfe")


def closure():
    lbfgs.zero_grad()
    loss = residual_loss()
    if loss.requires_grad:
        loss.backward()
    return loss


print(lbfgs.step(closure).item())
final = closure().item()
print(f"{final:.6f}")
assert final < losses[-1] < losses[0]
torch.set_default_dtype(torch.float32)
