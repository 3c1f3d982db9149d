"""One neuron, ŷ = σ(w·x + b), learns the logical OR of its two inputs: forward, loss, backward, update."""

import numpy as np

import chainrule as torch

x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
target = np.array([0.0, 1.0, 1.0, 1.0])
w, b, lr = np.array([0.1, -0.2]), 0.0, 2.0

for step in range(201):
    # Forward: what does the neuron say now, and how wrong is it?
    z = x @ w + b
    y = 1 / (1 + np.exp(-z))
    loss = np.mean((y - target) ** 2)

    # Backward: the chain rule from the loss to each parameter.
    dy = 2 * (y - target) / len(target)  # dL/dy
    dz = dy * y * (1 - y)  # dy/dz = y (1 − y)
    dw = x.T @ dz  # dz/dw = x, summed over the samples
    db = dz.sum()  # dz/db = 1, summed over the samples

    if step == 0:  # the engine finds the same
        tw = torch.tensor(w, requires_grad=True)
        tb = torch.tensor(b, dtype=torch.float64, requires_grad=True)
        guess = torch.sigmoid(torch.tensor(x) @ tw + tb)
        ((guess - torch.tensor(target)) ** 2).mean().backward()
        print(f"dL/dw  by hand {dw}, by the engine {tw.grad.numpy()}")
        np.testing.assert_allclose(dw, tw.grad.numpy(), rtol=1e-12)
        np.testing.assert_allclose(db, tb.grad.item(), rtol=1e-12)

    # Update: a small step downhill.
    w = w - lr * dw
    b = b - lr * db
    if step % 50 == 0:
        print(f"step {step:3d}  loss {loss:.4f}  ŷ = {np.round(y, 2)}")

assert ((y > 0.5) == (target > 0.5)).all()
