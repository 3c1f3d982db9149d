"""Convolutional autoencoder: strided and transposed convolutions, group norm, upsampling, autocast, tied decoder."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 3, stride=2, padding=1)
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(4, 8, 3, stride=2, padding=1, output_padding=1), nn.InstanceNorm2d(8, affine=True), nn.ELU(),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.Conv2d(8, 1, 3, padding="same"),
        )  # fmt: skip

    def forward(self, x):
        return torch.sigmoid(self.decoder(self.encoder(x)))


rng = np.random.default_rng(0)
grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij"))
centre = torch.from_numpy(rng.uniform(-0.5, 0.5, (24, 2, 1, 1)).astype("float32"))
images = torch.exp(-((grid - centre) ** 2).sum(1, keepdim=True) / 0.1)
print(images.shape, images.mean().item())
model = same_start(AutoEncoder())
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
losses = []
for epoch in range(10):
    for batch in torch.chunk(images, 2):
        recon = model(batch)
        loss = F.mse_loss(recon, batch) + 1e-3 * sum(p.abs().mean() for p in model.parameters())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    losses.append(loss.item())
    if epoch % 3 == 0:
        print(epoch, loss.item())
small = F.interpolate(images[:2], size=(5, 5), mode="bilinear", align_corners=True)
print(small.sum().item(), F.avg_pool2d(images, 4).std().item(), F.pad(images[0], (1, 1, 2, 2), mode="reflect").sum().item())
with torch.autocast(device_type="cpu", dtype=torch.bfloat16), torch.no_grad():
    half = model(images)
assert (half.float() - model(images)).abs().max() < 0.1
tied = nn.Linear(12, 6, bias=False)
same_start(tied, 3)
data = images.flatten(1)[:, :12]
opt = torch.optim.SGD(tied.parameters(), lr=0.5)
for _ in range(5):
    code = torch.relu(tied(data))
    loss = (F.linear(code, tied.weight.t()) - data).square().sum(1).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
assert losses[-1] < losses[0]
