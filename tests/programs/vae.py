"""Variational autoencoder: reparameterisation, binary cross-entropy and the closed-form divergence."""

import numpy as np
import torch
from start import noise, same_start
from torch import nn, optim
from torch.nn import functional as F

rng = np.random.default_rng(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(64, 40)
        self.fc21 = nn.Linear(40, 4)
        self.fc22 = nn.Linear(40, 4)
        self.fc3 = nn.Linear(4, 40)
        self.fc4 = nn.Linear(40, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = noise(rng, *std.shape).to(std)
        return mu + eps * std

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


data = torch.from_numpy((rng.random((128, 1, 8, 8)) < np.linspace(0, 1, 8)[:, None]).astype("float32"))
model = same_start(VAE().to(device))
optimizer = optim.Adam(model.parameters(), lr=1e-2)
losses = []
for epoch in range(6):
    model.train()
    train_loss = 0
    for batch in data.split(32):
        batch = batch.to(device)
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(batch)
        loss = loss_function(recon_batch, batch, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
    losses.append(train_loss / len(data))
    print("====> Epoch: {} Average loss: {:.4f}".format(epoch, losses[-1]))
with torch.no_grad():
    sample = model.decode(noise(rng, 8, 4).to(device)).cpu()
    print(sample.view(8, 1, 8, 8).mean().item(), sample.numpy().std())
assert losses[-1] < losses[0]
