"""Siamese network with triplet and contrastive losses; cosine similarity; nearest neighbours by cdist."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import noise, same_start
from torch.utils.data import DataLoader, TensorDataset


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.convnet = nn.Sequential(nn.Conv1d(1, 6, 3), nn.PReLU(), nn.MaxPool1d(2, stride=2))
        self.fc = nn.Sequential(nn.Linear(6 * 7, 16), nn.PReLU(), nn.Linear(16, 2))

    def forward(self, x):
        return F.normalize(self.fc(self.convnet(x.unsqueeze(1)).flatten(1)), p=2, dim=1)


rng = np.random.default_rng(0)
centres = noise(rng, 3, 16)
labels = torch.from_numpy(rng.integers(0, 3, 96))
points = centres[labels] + 0.8 * noise(rng, 96, 16)
loader = DataLoader(TensorDataset(points, labels), batch_size=32, shuffle=False, drop_last=True)
net = same_start(Embedder())
optimizer = torch.optim.Adagrad(net.parameters(), lr=0.05)
triplet = nn.TripletMarginLoss(margin=0.5)
losses = []
for epoch in range(8):
    for data, target in loader:
        anchor = net(data)
        same = target[:, None] == target[None, :]
        distance = torch.cdist(anchor, anchor)
        positive = distance.masked_fill(~same, -1).argmax(1)
        negative = distance.masked_fill(same, float("inf")).argmin(1)
        loss = triplet(anchor, anchor[positive], anchor[negative])
        y = torch.where(torch.arange(32) % 2 == 0, 1.0, -1.0)
        partner = torch.where(y > 0, positive, negative)
        loss = loss + 0.1 * F.cosine_embedding_loss(anchor, anchor[partner], y, margin=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    losses.append(loss.item())
    print(epoch, loss.item())
with torch.no_grad():
    e = net(points)
    d = torch.cdist(e, e).fill_diagonal_(float("inf"))
    accuracy = (labels[d.argmin(1)] == labels).float().mean()
    print(accuracy.item(), F.cosine_similarity(e[:5], e[5:10]).tolist(), F.pairwise_distance(e[:3], e[3:6]).tolist())
assert losses[-1] < losses[0]
