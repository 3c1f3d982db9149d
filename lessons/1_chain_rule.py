"""The chain rule: the derivative of a composition is the product of the derivatives along the way."""

import math

import chainrule as torch

x = torch.tensor(1.4142135, dtype=torch.float64, requires_grad=True)
z = x**2
y = torch.sin(z)
L = y**2

# By hand: dL/dx = dL/dy · dy/dz · dz/dx = 2y · cos(z) · 2x
by_hand = 2 * y.item() * math.cos(z.item()) * 2 * x.item()

# The engine recorded how L was computed, and can say what it does:
print(L.explain(x))

L.backward()
print(f"\nby hand {by_hand:.6f}, by the engine {x.grad.item():.6f}")
assert math.isclose(by_hand, x.grad.item(), rel_tol=1e-12)
