"""Gradients through simulations: a thrown ball, coupled springs, an ODE by Runge–Kutta, Hamiltonian flow, Newton's method."""

import math

import numpy as np
import torch
from torch.autograd.functional import hessian, jacobian

velocity = torch.tensor([1.0, 1.0], requires_grad=True)
target = torch.tensor([3.0, 1.0])
optimizer = torch.optim.SGD([velocity], lr=0.1, momentum=0.5)
for i in range(30):
    position, v = torch.zeros(2), velocity
    for _ in range(20):
        v = v + torch.tensor([0.0, -9.81]) * 0.02 - 0.05 * v * v.norm() * 0.02
        position = position + v * 0.02
    loss = (position - target).pow(2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(loss.item(), velocity.tolist())
assert loss < 1.0

k = torch.tensor([1.0, 2.0, 3.0], dtype=torch.double, requires_grad=True)
x = torch.linspace(0, 1, 4, dtype=torch.double).pow(2)
p = torch.zeros(4, dtype=torch.double)
for _ in range(50):
    stretch = x[1:] - x[:-1] - 0.2
    force = torch.zeros(4, dtype=torch.double)
    force[:-1] += k * stretch
    force[1:] -= k * stretch
    p = p + 0.05 * force
    x = x + 0.05 * p
energy = 0.5 * (p**2).sum() + 0.5 * (k * (x[1:] - x[:-1] - 0.2) ** 2).sum()
(g,) = torch.autograd.grad(energy, k)
print(energy.item(), g.tolist())


def rk4(f, y, t, dt):
    k1 = f(t, y)
    k2 = f(t + dt / 2, y + dt * k1 / 2)
    k3 = f(t + dt / 2, y + dt * k2 / 2)
    k4 = f(t + dt, y + dt * k3)
    return y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


A = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], requires_grad=True)
y, path = torch.tensor([2.0, 0.0]), []
for t in torch.arange(0.0, 1.0, 0.1):
    y = rk4(lambda t, y: torch.mv(A, y**3) * torch.exp(-t), y, t, 0.1)
    path.append(y)
loss = torch.stack(path).abs().mean()
loss.backward()
print(loss.item(), A.grad.tolist())


def rosenbrock(z):
    return (1 - z[0]) ** 2 + 100 * (z[1] - z[0] ** 2) ** 2


z = torch.tensor([-1.2, 1.0], dtype=torch.float64)
for _ in range(8):
    H, J = hessian(rosenbrock, z), jacobian(rosenbrock, z)
    z = z - torch.linalg.solve(H, J)
print(z.tolist(), torch.func.hessian(rosenbrock)(z).tolist())
assert torch.allclose(z, torch.ones(2, dtype=torch.float64), atol=1e-6)

xs = np.linspace(-math.pi, math.pi, 100)
weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
basis = torch.from_numpy(xs).unsqueeze(-1).pow(torch.tensor([0, 1, 2, 3]))
lbfgs = torch.optim.LBFGS([weights], max_iter=30)


def closure():
    lbfgs.zero_grad()
    loss = (basis @ weights - torch.sin(torch.from_numpy(xs))).square().mean()
    loss.backward()
    return loss


lbfgs.step(closure)
print([f"{w:.4f}" for w in weights.tolist()])
