"""Ratings as products of user and item factors with biases; per-parameter options; early stopping; a custom Optimizer."""

import numpy as np
import torch
from start import same_start
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, SequentialSampler, Subset


class Ratings(Dataset):
    def __init__(self, n=400):
        rng = np.random.default_rng(0)
        u, v = rng.standard_normal((20, 3)), rng.standard_normal((15, 3))
        self.users, self.items = rng.integers(0, 20, n), rng.integers(0, 15, n)
        self.r = (u[self.users] * v[self.items]).sum(1) + 3

    def __len__(self):
        return len(self.r)

    def __getitem__(self, i):
        return {"user": self.users[i], "item": self.items[i], "rating": np.float32(self.r[i])}


class MF(nn.Module):
    def __init__(self, n_users, n_items, k=4):
        super().__init__()
        self.U, self.V = nn.Embedding(n_users, k), nn.Embedding(n_items, k)
        self.bu, self.bi = nn.Embedding(n_users, 1), nn.Embedding(n_items, 1)
        self.mu = nn.Parameter(torch.zeros(1))

    def forward(self, u, i):
        return torch.einsum("bk,bk->b", self.U(u), self.V(i)) + (self.bu(u) + self.bi(i)).squeeze(-1) + self.mu


class Lion(Optimizer):
    """Sign of an interpolated momentum."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0):
        if lr <= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.data.mul_(1 - group["lr"] * group["weight_decay"])
                state = self.state[p]
                if len(state) == 0:
                    state["exp_avg"] = torch.zeros_like(p)
                exp_avg = state["exp_avg"]
                beta1, beta2 = group["betas"]
                update = exp_avg * beta1 + p.grad * (1 - beta1)
                p.add_(update.sign(), alpha=-group["lr"])
                exp_avg.mul_(beta2).add_(p.grad, alpha=1 - beta2)
        return loss


dataset = Ratings()
train, valid = Subset(dataset, range(320)), Subset(dataset, range(320, 400))
for make in (lambda p: Lion(p, lr=0.02), lambda p: torch.optim.SparseAdam(p) if False else torch.optim.Rprop(p, lr=0.01),
             lambda p: torch.optim.NAdam(p, lr=0.05), lambda p: torch.optim.RAdam(p, lr=0.05),
             lambda p: torch.optim.Adamax(p, lr=0.05), lambda p: torch.optim.ASGD(p, lr=0.5)):  # fmt: skip
    model = same_start(MF(20, 15))
    optimizer = make([{"params": [model.U.weight, model.V.weight]}, {"params": [model.bu.weight, model.bi.weight, model.mu]}])
    loader = DataLoader(train, batch_size=160, sampler=SequentialSampler(train))
    history, best, patience = [], float("inf"), 0
    for epoch in range(12):
        for batch in loader:
            loss = nn.functional.mse_loss(model(batch["user"], batch["item"]), batch["rating"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            val = np.mean([
                nn.functional.l1_loss(model(b["user"], b["item"]), b["rating"]).item() for b in DataLoader(valid, batch_size=40)
            ])  # fmt: skip
        history.append(loss.item())
        best, patience = (val, 0) if val < best else (best, patience + 1)
        if patience > 4:
            break
    print(type(optimizer).__name__, history[0], history[-1], best)
    assert history[-1] < history[0]
