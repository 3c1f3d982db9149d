"""Generator against discriminator, with detach, labels that are filled, and two optimizers."""

import numpy as np
import torch
import torch.nn as nn
from start import noise, same_start

rng = np.random.default_rng(0)
nz, n = 4, 64


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Linear") != -1:
        nn.init.normal_(m.weight.data, 0.0, 0.02)
        nn.init.constant_(m.bias.data, 0)


netG = nn.Sequential(nn.Linear(nz, 32), nn.LeakyReLU(0.2, inplace=True), nn.Linear(32, 2))
netD = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2, True), nn.Linear(32, 1), nn.Sigmoid())
netG.apply(weights_init)
netD.apply(weights_init)
same_start(netG, 1)
same_start(netD, 2)
criterion = nn.BCELoss()
optimizerD = torch.optim.Adam(netD.parameters(), lr=0.01, betas=(0.5, 0.999))
optimizerG = torch.optim.Adam(netG.parameters(), lr=0.01, betas=(0.5, 0.999))
real_label, fake_label = 1.0, 0.0
mean = torch.tensor([2.0, -1.0])
distance = []
for i in range(60):
    netD.zero_grad()
    real = noise(rng, n, 2) * 0.3 + mean
    label = torch.full((n,), real_label, dtype=torch.float, device=real.device)
    output = netD(real).view(-1)
    errD_real = criterion(output, label)
    errD_real.backward()
    D_x = output.mean().item()
    fake = netG(noise(rng, n, nz))
    label.fill_(fake_label)
    output = netD(fake.detach()).view(-1)
    errD_fake = criterion(output, label)
    errD_fake.backward()
    optimizerD.step()
    netG.zero_grad()
    label.fill_(real_label)
    errG = criterion(netD(fake).view(-1), label)
    errG.backward()
    optimizerG.step()
    distance.append((fake.detach().mean(0) - mean).norm().item())
    if i % 15 == 0:
        print("[%d] Loss_D: %.4f Loss_G: %.4f D(x): %.4f" % (i, (errD_real + errD_fake).item(), errG.item(), D_x))
print(distance[0], distance[-1])
assert distance[-1] < distance[0]
