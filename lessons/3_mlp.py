"""The 2-layer MLP x → W1, b1 → ReLU → W2, b2 → softmax: its four gradients in three ways that must agree."""

import numpy as np

import chainrule as torch
import chainrule.nn.functional as F
from chainrule.byhand import MLP, numerical_gradient

rng = np.random.default_rng(0)
x, target = rng.normal(size=(32, 4)), rng.integers(0, 3, 32)

# 1. By hand: read src/chainrule/byhand/mlp.py beside this.
net = MLP(4, 8, 3, seed=0, loss="cross_entropy")
y_pred, cache = net.forward(x)
by_hand = net.backward(x, target, y_pred, cache)

# 2. By the engine: the same computation, nothing said about derivatives.
W1, b1, W2, b2 = (torch.tensor(getattr(net, k), requires_grad=True) for k in ("W1", "b1", "W2", "b2"))
X = torch.tensor(x)
y = torch.tensor(target)
z1 = X @ W1 + b1
a1 = torch.relu(z1)
z2 = a1 @ W2 + b2
loss = F.cross_entropy(z2, y)
print(loss.backward_source())
loss.backward()

# 3. Numerically: change one weight at a time and look at the loss.
for name, p in (("W1", W1), ("b1", b1), ("W2", W2), ("b2", b2)):

    def loss_of(value, name=name):
        before = getattr(net, name)
        setattr(net, name, value)
        found = net.loss(target, net.forward(x)[0])
        setattr(net, name, before)
        return found

    numeric = numerical_gradient(loss_of, getattr(net, name))
    print(
        f"{name}: by hand − engine {np.abs(by_hand[name] - p.grad.numpy()).max():.1e}, "
        f"by hand − numeric {np.abs(by_hand[name] - numeric).max():.1e}"
    )
    np.testing.assert_allclose(by_hand[name], p.grad.numpy(), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(by_hand[name], numeric, rtol=1e-5, atol=1e-9)
