"""Skip-gram with negative sampling, sparse flags off, embedding bags for a second classifier."""

from collections import Counter

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start

corpus = ("the king rules the land . the queen rules the land . a dog chases a cat . a cat chases a mouse . " * 6).split()
counts = Counter(corpus)
vocab = {w: i for i, (w, _) in enumerate(counts.most_common())}
freq = torch.tensor([counts[w] for w in vocab], dtype=torch.float) ** 0.75
freq /= freq.sum()
rng = np.random.default_rng(0)


class SkipGram(nn.Module):
    def __init__(self, n, d):
        super().__init__()
        self.u_embeddings, self.v_embeddings = nn.Embedding(n, d, sparse=False), nn.Embedding(n, d, sparse=False)
        self.u_embeddings.weight.data.uniform_(-0.5 / d, 0.5 / d)
        self.v_embeddings.weight.data.zero_()

    def forward(self, pos_u, pos_v, neg_v):
        emb_u, emb_v, neg_emb_v = self.u_embeddings(pos_u), self.v_embeddings(pos_v), self.v_embeddings(neg_v)
        score = -F.logsigmoid(torch.clamp(torch.sum(torch.mul(emb_u, emb_v), dim=1), max=10, min=-10))
        neg_score = torch.clamp(torch.bmm(neg_emb_v, emb_u.unsqueeze(2)).squeeze(), max=10, min=-10)
        return torch.mean(score - torch.sum(F.logsigmoid(-neg_score), dim=1))


ids = [vocab[w] for w in corpus]
pairs = torch.tensor([(ids[i], ids[j]) for i in range(len(ids)) for j in range(max(0, i - 2), min(len(ids), i + 3)) if i != j])
model = same_start(SkipGram(len(vocab), 8))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
losses = []
for step in range(60):
    rows = torch.from_numpy(rng.integers(0, len(pairs), 64))
    negatives = torch.from_numpy(rng.choice(len(vocab), (64, 4), p=(freq.double() / freq.double().sum()).numpy()))
    loss = model(pairs[rows, 0], pairs[rows, 1], negatives)
    model.zero_grad(set_to_none=False)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if step % 15 == 0:
        print(step, loss.item())
W = F.normalize(model.u_embeddings.weight.detach(), dim=1)
similarity = W @ W.T
print(similarity[vocab["king"]].topk(3).values.tolist(), [list(vocab)[i] for i in similarity[vocab["king"]].topk(3)[1]])
assert sum(losses[-10:]) < sum(losses[:10])

bag = same_start(nn.EmbeddingBag(len(vocab), 6, mode="mean"), 5)
text, offsets = torch.tensor(ids[:12]), torch.tensor([0, 6, 9])
out = bag(text, offsets)
out.sin().sum().backward()
print(out.shape, out.sum().item(), bag.weight.grad.abs().sum().item())
