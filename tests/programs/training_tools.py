#!/usr/bin/env python
"""argparse, logging, custom optimizer and scheduler, early stopping, TensorBoard, AMP, distillation, MoE, adjoint ODE, ViT"""
import argparse
import copy
import logging
import math
import os
import random
import sys
import tempfile
import time
import warnings
from collections import defaultdict, OrderedDict
from enum import Enum
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

import numpy as np
import torch
import torch.backends.cudnn as cudnn
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.cuda.amp import autocast, GradScaler
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters
from torch.optim import Optimizer
from torch.optim.lr_scheduler import _LRScheduler, LRScheduler, CosineAnnealingLR, OneCycleLR, SequentialLR, LinearLR
from torch.utils.data import DataLoader, TensorDataset
try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:
    SummaryWriter = None
from start import same_start, noise

parser = argparse.ArgumentParser(description='Training')
parser.add_argument('--lr', default=0.05, type=float, metavar='LR')
parser.add_argument('--epochs', type=int, default=4)
parser.add_argument('--no-cuda', action='store_true', default=False)
parser.add_argument('--seed', type=int, default=1, metavar='S')
args = parser.parse_args([])
args.cuda = not args.no_cuda and torch.cuda.is_available()
random.seed(args.seed); np.random.seed(args.seed); torch.manual_seed(args.seed)
if args.cuda:
    torch.cuda.manual_seed(args.seed)
cudnn.deterministic = True
cudnn.benchmark = False
device = torch.device("cuda" if args.cuda else "cpu")
kwargs = {'num_workers': 1, 'pin_memory': True} if args.cuda else {}
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format='%(levelname)s %(message)s')
logger = logging.getLogger(__name__)


class Summary(Enum):
    NONE = 0
    AVERAGE = 1


class AverageMeter(object):
    def __init__(self, name, fmt=':f', summary_type=Summary.AVERAGE):
        self.name, self.fmt, self.summary_type = name, fmt, summary_type
        self.reset()

    def reset(self):
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count

    def __str__(self):
        fmtstr = '{name} {val' + self.fmt + '} ({avg' + self.fmt + '})'
        return fmtstr.format(**self.__dict__)


class Lion(Optimizer):
    def __init__(self, params, lr: float = 1e-4, betas: Tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0):
        if not 0.0 <= lr:
            raise ValueError('Invalid learning rate: {}'.format(lr))
        defaults = dict(lr=lr, betas=betas, weight_decay=weight_decay)
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Optional[Callable] = None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group['params']:
                if p.grad is None:
                    continue
                p.data.mul_(1 - group['lr'] * group['weight_decay'])
                grad = p.grad
                state = self.state[p]
                if len(state) == 0:
                    state['exp_avg'] = torch.zeros_like(p)
                exp_avg = state['exp_avg']
                beta1, beta2 = group['betas']
                update = exp_avg * beta1 + grad * (1 - beta1)
                p.add_(update.sign_(), alpha=-group['lr'])
                exp_avg.mul_(beta2).add_(grad, alpha=1 - beta2)
        return loss


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, adaptive=False, **kwargs):
        assert rho >= 0.0, f"Invalid rho, should be non-negative: {rho}"
        defaults = dict(rho=rho, adaptive=adaptive, **kwargs)
        super(SAM, self).__init__(params, defaults)
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups
        self.defaults.update(self.base_optimizer.defaults)

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        grad_norm = self._grad_norm()
        for group in self.param_groups:
            scale = group["rho"] / (grad_norm + 1e-12)
            for p in group["params"]:
                if p.grad is None: continue
                self.state[p]["old_p"] = p.data.clone()
                e_w = (torch.pow(p, 2) if group["adaptive"] else 1.0) * p.grad * scale.to(p)
                p.add_(e_w)
        if zero_grad: self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None: continue
                p.data = self.state[p]["old_p"]
        self.base_optimizer.step()
        if zero_grad: self.zero_grad()

    def _grad_norm(self):
        shared_device = self.param_groups[0]["params"][0].device
        return torch.norm(torch.stack([((torch.abs(p) if group["adaptive"] else 1.0) * p.grad).norm(p=2).to(shared_device)
                                       for group in self.param_groups for p in group["params"] if p.grad is not None]), p=2)

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.base_optimizer.param_groups = self.param_groups


class WarmupCosine(_LRScheduler):
    def __init__(self, optimizer, warmup, total, eta_min=0, last_epoch=-1):
        self.warmup, self.total, self.eta_min = warmup, total, eta_min
        super(WarmupCosine, self).__init__(optimizer, last_epoch)

    def get_lr(self):
        if self.last_epoch < self.warmup:
            return [base_lr * (self.last_epoch + 1) / self.warmup for base_lr in self.base_lrs]
        t = (self.last_epoch - self.warmup) / max(1, self.total - self.warmup)
        return [self.eta_min + 0.5 * (b - self.eta_min) * (1 + math.cos(math.pi * t)) for b in self.base_lrs]


class EarlyStopping:
    def __init__(self, patience=2, delta=0.0, path='checkpoint.pt', trace_func=print):
        self.patience, self.delta, self.path, self.trace_func = patience, delta, path, trace_func
        self.counter, self.best_score, self.early_stop, self.val_loss_min = 0, None, False, float('inf')

    def __call__(self, val_loss, model):
        score = -val_loss
        if self.best_score is None or score >= self.best_score + self.delta:
            self.best_score = score
            self.trace_func(f'Validation loss decreased ({self.val_loss_min:.4f} --> {val_loss:.4f}).  Saving model ...')
            torch.save(model.state_dict(), self.path)
            self.val_loss_min = val_loss
            self.counter = 0
        else:
            self.counter += 1
            self.trace_func(f'EarlyStopping counter: {self.counter} out of {self.patience}')
            if self.counter >= self.patience:
                self.early_stop = True


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        maxk = max(topk)
        batch_size = target.size(0)
        _, pred = output.topk(maxk, 1, True, True)
        pred = pred.t()
        correct = pred.eq(target.view(1, -1).expand_as(pred))
        res = []
        for k in topk:
            correct_k = correct[:k].reshape(-1).float().sum(0, keepdim=True)
            res.append(correct_k.mul_(100.0 / batch_size))
        return res


# Vision transformer
def pair(t):
    return t if isinstance(t, tuple) else (t, t)


class Attention(nn.Module):
    def __init__(self, dim, heads=2, qkv_bias=False):
        super().__init__()
        self.num_heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = (q @ k.transpose(-2, -1)) * self.scale
        attn = attn.softmax(dim=-1)
        x = (attn @ v).transpose(1, 2).reshape(B, N, C)
        return self.proj(x)


class Expert(nn.Sequential):
    def __init__(self, d):
        super().__init__(nn.Linear(d, 2 * d), nn.GELU(approximate='tanh'), nn.Linear(2 * d, d))


class MoE(nn.Module):
    def __init__(self, d, n=3, k=2):
        super().__init__()
        self.experts, self.gate, self.k = nn.ModuleList(Expert(d) for _ in range(n)), nn.Linear(d, n, bias=False), k

    def forward(self, x):
        shape = x.shape
        x = x.view(-1, shape[-1])
        weights, selected = torch.topk(self.gate(x), self.k)
        weights = F.softmax(weights, dim=1, dtype=torch.float).to(x.dtype)
        results = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            batch_idx, nth = torch.where(selected == i)
            results[batch_idx] += weights[batch_idx, nth, None] * expert(x[batch_idx])
        self.load = F.one_hot(selected[:, 0], len(self.experts)).float().mean(0)
        return results.view(*shape)


class ViT(nn.Module):
    def __init__(self, image_size=8, patch=4, dim=16, classes=4, depth=2, moe=False):
        super().__init__()
        h, w = pair(image_size)
        n = (h // patch) * (w // patch)
        self.patch_embed = nn.Conv2d(1, dim, kernel_size=patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, n + 1, dim))
        nn.init.trunc_normal_(self.pos_embed, std=.02)
        self.blocks = nn.ModuleList([nn.ModuleDict({'n1': nn.LayerNorm(dim), 'a': Attention(dim), 'n2': nn.LayerNorm(dim), 'm': MoE(dim) if moe else Expert(dim)}) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, classes)

    @torch.jit.ignore if hasattr(torch, "jit") else (lambda f: f)
    def no_weight_decay(self):
        return {'pos_embed', 'cls_token'}

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        for b in self.blocks:
            x = x + b['a'](b['n1'](x))
            x = x + b['m'](b['n2'](x))
        return self.head(self.norm(x)[:, 0])


def distill(student, teacher, labels, T=2.0, alpha=0.5):
    soft = F.kl_div(F.log_softmax(student / T, dim=1), F.softmax(teacher / T, dim=1), reduction='batchmean') * (T * T)
    return alpha * soft + (1. - alpha) * F.cross_entropy(student, labels)


rng = np.random.default_rng(0)
X = noise(rng, 48, 1, 8, 8); Y = torch.from_numpy(rng.integers(0, 4, 48))
for c in range(4):
    X[Y == c, :, c * 2:c * 2 + 2] += 1.5
train_loader = DataLoader(TensorDataset(X[:32], Y[:32]), batch_size=8, **kwargs)
val = X[32:], Y[32:]
tmp = tempfile.TemporaryDirectory()
writer = SummaryWriter(log_dir=os.path.join(tmp.name, "runs")) if SummaryWriter else None
teacher = same_start(ViT()).to(device)
skip = teacher.no_weight_decay()
groups = [{'params': [p for n, p in teacher.named_parameters() if p.ndim <= 1 or n in skip], 'weight_decay': 0.}, {'params': [p for n, p in teacher.named_parameters() if not (p.ndim <= 1 or n in skip)]}]
optimizer = Lion(groups, lr=2e-3, weight_decay=0.01)
scheduler = WarmupCosine(optimizer, 3, args.epochs * len(train_loader))
stopper = EarlyStopping(patience=2, path=os.path.join(tmp.name, 'ck.pt'), trace_func=logger.info)
scaler = GradScaler(enabled=args.cuda)
for epoch in range(args.epochs):
    losses, top1 = AverageMeter('Loss', ':.4f'), AverageMeter('Acc@1', ':6.2f')
    teacher.train()
    for i, (images, target) in enumerate(train_loader):
        images, target = images.to(device, non_blocking=True), target.to(device, non_blocking=True)
        with autocast(enabled=args.cuda):
            output = teacher(images)
            loss = F.cross_entropy(output, target)
        acc1, acc2 = accuracy(output, target, topk=(1, 2))
        losses.update(loss.item(), images.size(0))
        top1.update(acc1[0].item(), images.size(0))
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
    if writer is not None:
        writer.add_scalar('train/loss', losses.avg, epoch)
        writer.add_histogram('head', teacher.head.weight, epoch)
    teacher.eval()
    with torch.no_grad():
        v = F.cross_entropy(teacher(val[0]), val[1]).item()
    print(epoch, losses, top1, f'{scheduler.get_last_lr()[0]:.6f}')
    stopper(v, teacher)
    if stopper.early_stop:
        break
if writer is not None:
    writer.close()
    assert len(list(Path(tmp.name).rglob('events*'))) == 1
print(optimizer.state_dict()['param_groups'][1]['weight_decay'], len(optimizer.state))
teacher.load_state_dict(torch.load(stopper.path))
student = same_start(ViT(depth=1, moe=True), 5)
sam = SAM(student.parameters(), optim.SGD, lr=0.1, momentum=0.9)
sched = OneCycleLR(sam.base_optimizer, max_lr=0.1, total_steps=12)
for epoch in range(3):
    for images, target in train_loader:
        with torch.no_grad():
            t = teacher(images)
        loss = distill(student(images), t, target)
        loss.backward()
        sam.first_step(zero_grad=True)
        distill(student(images), t, target).backward()
        sam.second_step(zero_grad=True)
        sched.step()
print('distilled', loss.item(), student.blocks[0]['m'].load)
vec = parameters_to_vector(student.parameters())
vector_to_parameters(vec * 0.5, student.parameters())
print(vec.norm().item(), parameters_to_vector(student.parameters()).norm().item())


# neural ODE with the adjoint
def rk4(f, z, t0, t1, n=4):
    h = (t1 - t0) / n
    t = t0
    for _ in range(n):
        k1 = f(t, z); k2 = f(t + h / 2, tuple(a + h / 2 * b for a, b in zip(z, k1)))
        k3 = f(t + h / 2, tuple(a + h / 2 * b for a, b in zip(z, k2))); k4 = f(t + h, tuple(a + h * b for a, b in zip(z, k3)))
        z = tuple(a + h / 6 * (p + 2 * q + 2 * r + s) for a, p, q, r, s in zip(z, k1, k2, k3, k4))
        t = t + h
    return z


class ODEAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z0, t, flat, func):
        with torch.no_grad():
            z1, = rk4(lambda t, z: (func(z[0]),), (z0,), 0.0, t)
        ctx.func, ctx.t = func, t
        ctx.save_for_backward(z1.clone(), flat)
        ctx.mark_non_differentiable()
        return z1

    @staticmethod
    @once_differentiable
    def backward(ctx, dz):
        func, (z1, flat) = ctx.func, ctx.saved_tensors
        params = tuple(func.parameters())

        def augmented(t, state):
            z, a = state[0].detach(), state[1]
            with torch.enable_grad():
                z.requires_grad_(True)
                f = func(z)
                grads = torch.autograd.grad(f, (z,) + params, grad_outputs=a, allow_unused=True)
            return (f.detach(), -grads[0], *[-(torch.zeros_like(p) if g is None else g) for g, p in zip(grads[1:], params)])

        out = rk4(augmented, (z1, dz, *[torch.zeros_like(p) for p in params]), ctx.t, 0.0)
        return out[1], None, torch.cat([g.reshape(-1) for g in out[2:]]), None


func = same_start(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)))
opt = optim.RMSprop(func.parameters(), lr=1e-2)
z0 = noise(rng, 16, 2); target = z0 @ torch.tensor([[0., 1.], [-1., 0.]])
for it in range(6):
    opt.zero_grad()
    flat = torch.cat([p.reshape(-1) for p in func.parameters()])
    loss = torch.mean(torch.abs(ODEAdjoint.apply(z0, 1.0, flat, func) - target))
    loss.backward()
    opt.step()
print('ode', loss.item())
x = torch.randn(2, 2, requires_grad=False)
with torch.autograd.set_detect_anomaly(True), torch.autograd.profiler.record_function("f") if hasattr(torch.autograd, "profiler") else torch.enable_grad():
    assert torch.autograd.gradcheck(lambda a: ODEAdjoint.apply(a, 0.5, flat.double().detach(), func.double()), (z0[:2].double().requires_grad_(),), atol=1e-3, rtol=1e-2)
print(isinstance(opt, torch.optim.Optimizer), isinstance(sched, LRScheduler), issubclass(WarmupCosine, LRScheduler))
seq = SequentialLR(opt, [LinearLR(opt, 0.1, total_iters=3), CosineAnnealingLR(opt, T_max=5)], milestones=[3])
lrs = []
for _ in range(6):
    opt.step(); seq.step(); lrs.append(round(opt.param_groups[0]['lr'], 6))
print(lrs)
tmp.cleanup()
