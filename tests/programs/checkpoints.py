"""Checkpoints: save, load, resume in the middle; gradient checkpointing; EMA through deepcopy; SWA; freezing."""

import copy
import io
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
from start import noise, same_start
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint, checkpoint_sequential


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.out = nn.Linear(4, 16), nn.Linear(16, 1)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)) for _ in range(3)])
        self.checkpointed = True

    def forward(self, x):
        x = self.inp(x)
        for block in self.blocks:
            x = x + (checkpoint(block, x, use_reentrant=False) if self.checkpointed and self.training else block(x))
        return self.out(x)


class EMA:
    def __init__(self, model, decay):
        self.model, self.decay = copy.deepcopy(model).eval(), decay
        self.model.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for e, p in zip(self.model.state_dict().values(), model.state_dict().values()):
            e.copy_(e * self.decay + (1.0 - self.decay) * p)


rng = np.random.default_rng(0)
x = noise(rng, 64, 4)
y = x.prod(1, keepdim=True) + x[:, :1]
model = same_start(Net())
ema, swa = EMA(model, 0.9), AveragedModel(model)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
losses = []


def steps(n):
    for _ in range(n):
        optimizer.zero_grad()
        loss = nn.functional.huber_loss(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        ema.update(model)
        swa.update_parameters(model)
        losses.append(loss.item())


steps(10)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "checkpoint.pt")
    torch.save({"epoch": 10, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(), "loss": losses[-1]}, path)  # fmt: skip
    steps(5)
    went_on = losses[-1]
    ckpt = torch.load(path, map_location="cpu", weights_only=True)
model.load_state_dict(ckpt["model_state_dict"])
optimizer.load_state_dict(ckpt["optimizer_state_dict"])
scheduler.load_state_dict(ckpt["scheduler"])
steps(5)
print(ckpt["epoch"], losses[9], went_on, losses[-1], scheduler.get_last_lr())
assert losses[-1] == went_on
buffer = io.BytesIO()
torch.save(model.state_dict(), buffer)
buffer.seek(0)
other = Net()
other.load_state_dict(torch.load(buffer))
model.eval(), other.eval()
assert torch.equal(model(x), other(x))
print(ema.model(x).mean().item(), swa(x).mean().item(), swa.n_averaged.item())
model.train()
model.zero_grad()
model(x).sum().backward()
with_checkpoint = [p.grad.clone() for p in model.parameters()]
model.checkpointed = False
model.zero_grad()
model(x).sum().backward()
assert all(torch.allclose(a, p.grad) for a, p in zip(with_checkpoint, model.parameters()))
stack = nn.Sequential(*[nn.Linear(4, 4) for _ in range(4)])
same_start(stack)
z = x.clone().requires_grad_()
checkpoint_sequential(stack, 2, z, use_reentrant=False).sum().backward()
print(z.grad.sum().item())
for p in model.blocks.parameters():
    p.requires_grad_(False)
trainable = [p for p in model.parameters() if p.requires_grad]
opt = torch.optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=0.1)
missing = other.load_state_dict({"inp.weight": model.inp.weight.detach()}, strict=False)
print(len(trainable), len(opt.param_groups[0]["params"]), len(missing.missing_keys), missing.unexpected_keys)
assert losses[-1] < losses[0]
