"""Wasserstein critic with gradient penalty: grad of a grad through the whole network."""

import numpy as np
import torch
import torch.autograd as autograd
import torch.nn as nn
from start import noise, same_start

rng = np.random.default_rng(0)
G = same_start(nn.Sequential(nn.Linear(4, 32), nn.ReLU(True), nn.Linear(32, 2)), 1)
D = same_start(nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2, inplace=True), nn.LayerNorm(32), nn.Linear(32, 1)), 2)
optimizer_G = torch.optim.Adam(G.parameters(), lr=2e-2, betas=(0.0, 0.9))
optimizer_D = torch.optim.Adam(D.parameters(), lr=2e-2, betas=(0.0, 0.9))


def compute_gradient_penalty(D, real_samples, fake_samples):
    alpha = torch.from_numpy(rng.random((real_samples.size(0), 1)).astype(np.float32))
    interpolates = (alpha * real_samples + ((1 - alpha) * fake_samples)).requires_grad_(True)
    d_interpolates = D(interpolates)
    gradients = autograd.grad(
        outputs=d_interpolates,
        inputs=interpolates,
        grad_outputs=torch.ones_like(d_interpolates),
        create_graph=True,
        retain_graph=True,
        only_inputs=True,
    )[0]
    gradients = gradients.view(gradients.size(0), -1)
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean()


centre = torch.tensor([1.5, 1.5])
distance = []
for i in range(30):
    real = noise(rng, 32, 2) * 0.2 + centre
    optimizer_D.zero_grad()
    fake = G(noise(rng, 32, 4))
    penalty = compute_gradient_penalty(D, real.data, fake.data)
    d_loss = -torch.mean(D(real)) + torch.mean(D(fake.detach())) + 10 * penalty
    d_loss.backward()
    optimizer_D.step()
    if i % 3 == 0:
        for p in D.parameters():
            p.requires_grad = False
        optimizer_G.zero_grad()
        fake = G(noise(rng, 32, 4))
        g_loss = -torch.mean(D(fake))
        g_loss.backward()
        optimizer_G.step()
        for p in D.parameters():
            p.requires_grad = True
        print(i, d_loss.item(), g_loss.item(), penalty.item())
    distance.append((fake.mean(0) - centre).norm().item())
assert distance[-1] < distance[0]
