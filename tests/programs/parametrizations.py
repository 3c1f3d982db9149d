import torch
import torch.nn as nn
import torch.nn.utils.parametrize as parametrize
import torch.nn.utils.prune as prune
import torch.nn.functional as F
import numpy as np
import math
from start import same_start, noise

rng = np.random.default_rng(0)


class Symmetric(nn.Module):
    def forward(self, X):
        return X.triu() + X.triu(1).transpose(-1, -2)

    def right_inverse(self, A):
        return A.triu()


class MatrixExponential(nn.Module):
    def forward(self, X):
        return torch.linalg.solve(torch.eye(3) - X, torch.eye(3) + X)


class Skew(nn.Module):
    def forward(self, X):
        A = X.triu(1)
        return A - A.transpose(-1, -2)

    def right_inverse(self, A):
        return A.triu(1)


class CayleyMap(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.register_buffer("Id", torch.eye(n))

    def forward(self, X):
        # (I + X)(I - X)^{-1}
        return torch.linalg.solve(self.Id - X, self.Id + X)

    def right_inverse(self, A):
        # (A - I)(A + I)^{-1}
        return torch.linalg.solve(A + self.Id, self.Id - A) * -1


layer = same_start(nn.Linear(3, 3))
parametrize.register_parametrization(layer, "weight", Symmetric())
A = layer.weight
assert torch.allclose(A, A.T)
print(layer)
print(A.sum().item(), layer.parametrizations.weight[0], layer.parametrizations.weight.original.shape)
layer.weight = noise(rng, 3, 3).triu() * 1.0
print(layer.weight)
cnn = same_start(nn.Conv2d(in_channels=5, out_channels=8, kernel_size=3, padding=1))
parametrize.register_parametrization(cnn, "weight", nn.Identity())
parametrize.register_parametrization(cnn, "bias", nn.Identity())
print(dict(cnn.named_parameters()).keys(), cnn.state_dict().keys())
layer_orthogonal = same_start(nn.Linear(3, 3))
parametrize.register_parametrization(layer_orthogonal, "weight", Skew())
parametrize.register_parametrization(layer_orthogonal, "weight", MatrixExponential())
X = layer_orthogonal.weight
print(torch.dist(X.T @ X, torch.eye(3)).item() < 1e-5)
opt = torch.optim.SGD(layer_orthogonal.parameters(), lr=0.1)
target = noise(rng, 3, 3)
for _ in range(10):
    opt.zero_grad()
    loss = (layer_orthogonal.weight - target).pow(2).mean()
    loss.backward()
    opt.step()
print(loss.item(), layer_orthogonal.weight.det().item())
with parametrize.cached():
    Y = layer_orthogonal.weight
    assert Y is layer_orthogonal.weight
parametrize.remove_parametrizations(layer_orthogonal, "weight", leave_parametrized=True)
print(layer_orthogonal, layer_orthogonal.weight.requires_grad, [n for n, _ in layer_orthogonal.named_parameters()])
l2 = same_start(nn.Linear(4, 4))
parametrize.register_parametrization(l2, "weight", Skew())
parametrize.register_parametrization(l2, "weight", CayleyMap(4))
X = torch.empty(4, 4)
X.copy_(torch.eye(4))
l2.weight = X
print(l2.weight.sum().item(), parametrize.is_parametrized(l2), parametrize.is_parametrized(l2, "bias"))


class PruningParametrization(nn.Module):
    def __init__(self, X, p_drop=0.2):
        super().__init__()
        mask = torch.ones_like(X)
        mask.view(-1)[::5] = 0
        self.register_buffer("mask", mask)

    def forward(self, X):
        return X * self.mask


class RankOne(nn.Module):
    def forward(self, x, y):
        return x.unsqueeze(-1) @ y.unsqueeze(-2)

    def right_inverse(self, Z):
        U, S, Vh = torch.linalg.svd(Z, full_matrices=False)
        s0_sqrt = S[0].sqrt().unsqueeze(-1)
        return U[..., :, 0] * s0_sqrt, Vh[..., 0, :] * s0_sqrt


lr1 = same_start(nn.Linear(4, 4))
parametrize.register_parametrization(lr1, "weight", RankOne())
print(torch.linalg.matrix_rank(lr1.weight).item(), lr1)
linear = same_start(nn.Linear(3, 4))
torch.nn.utils.parametrizations.spectral_norm(linear)
wn = torch.nn.utils.parametrizations.weight_norm(same_start(nn.Linear(3, 4)), name="weight", dim=0)
print(wn, wn.weight.sum().item(), list(wn.state_dict()))


class LoRA(nn.Module):
    def __init__(self, fin, fout, rank=2, alpha=1):
        super().__init__()
        self.lora_A = nn.Parameter(torch.zeros((rank, fout)))
        self.lora_B = nn.Parameter(torch.zeros((fin, rank)))
        nn.init.constant_(self.lora_A, 0.1)
        self.scale = alpha / rank
        self.enabled = True

    def forward(self, W):
        return W + torch.matmul(self.lora_B, self.lora_A).view(W.shape) * self.scale if self.enabled else W


net = same_start(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
for m in net.modules():
    if type(m) is nn.Linear:
        parametrize.register_parametrization(m, "weight", LoRA(*m.weight.shape))
for n, p in net.named_parameters():
    if 'lora' not in n:
        p.requires_grad = False
print(sum(p.nelement() for p in net.parameters() if p.requires_grad), sum(p.nelement() for p in net.parameters()))
opt = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.05)
x, y = noise(rng, 32, 4), torch.from_numpy(rng.integers(0, 2, 32))
for _ in range(10):
    loss = F.cross_entropy(net(x), y)
    opt.zero_grad(); loss.backward(); opt.step()
print(loss.item(), [n for n, p in net.named_parameters() if p.grad is not None])


# pruning
class LeNet(nn.Module):
    def __init__(self):
        super(LeNet, self).__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc3 = nn.Linear(120, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, int(x.nelement() / x.shape[0]))
        x = F.relu(self.fc1(x))
        return self.fc3(x)


device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = same_start(LeNet()).to(device=device)
module = model.conv1
prune.random_unstructured(module, name="weight", amount=0.3)
print([n for n, _ in module.named_parameters()], [n for n, _ in module.named_buffers()], module._forward_pre_hooks.__len__())
prune.l1_unstructured(module, name="bias", amount=3)
print(module.bias, module.bias_mask)
prune.ln_structured(module, name="weight", amount=0.5, n=2, dim=0)
print(float(torch.sum(module.weight == 0)) >= 75)
print(list(model.state_dict().keys()))
prune.remove(module, 'weight')
print(list(module.named_buffers())[0][0])
model = same_start(LeNet())
for name, module in model.named_modules():
    if isinstance(module, torch.nn.Conv2d):
        prune.l1_unstructured(module, name='weight', amount=0.2)
    elif isinstance(module, torch.nn.Linear):
        prune.l1_unstructured(module, name='weight', amount=0.4)
print(dict(model.named_buffers()).keys())
print("Sparsity in conv1.weight: {:.2f}%".format(100. * float(torch.sum(model.conv1.weight == 0)) / float(model.conv1.weight.nelement())))
model = same_start(LeNet())
parameters_to_prune = ((model.conv1, 'weight'), (model.conv2, 'weight'), (model.fc1, 'weight'), (model.fc3, 'weight'))
prune.global_unstructured(parameters_to_prune, pruning_method=prune.L1Unstructured, amount=0.2)
print("Sparsity: {:.2f}%".format(100. * float(sum(torch.sum(m.weight == 0) for m, _ in parameters_to_prune)) / float(sum(m.weight.nelement() for m, _ in parameters_to_prune))))
out = model(noise(rng, 2, 1, 32, 32)).sum()
out.backward()
print(out.item(), (model.fc1.weight_orig.grad == 0).float().mean().item(), prune.is_pruned(model))


class FooBarPruningMethod(prune.BasePruningMethod):
    """Prune every other entry in a tensor"""
    PRUNING_TYPE = 'unstructured'

    def compute_mask(self, t, default_mask):
        mask = default_mask.clone()
        mask.view(-1)[::2] = 0
        return mask


def foobar_unstructured(module, name):
    FooBarPruningMethod.apply(module, name)
    return module


model = LeNet()
foobar_unstructured(model.fc3, name='bias')
print(model.fc3.bias_mask)
mask = torch.ones(10); mask[3] = 0
prune.custom_from_mask(model.fc3, "bias", mask)
print(model.fc3.bias_mask, prune.is_pruned(model.fc1))
