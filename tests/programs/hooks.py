"""Hooks of every kind: forward, pre-forward with kwargs, full backward, tensor hooks, post-accumulate, feature extraction."""

from collections import OrderedDict, defaultdict

import numpy as np
import torch
import torch.nn as nn
from start import noise, same_start

rng = np.random.default_rng(0)
model = same_start(
    nn.Sequential(
        OrderedDict([("fc1", nn.Linear(6, 8)), ("act1", nn.ReLU()), ("fc2", nn.Linear(8, 8)), ("act2", nn.Sigmoid()),
                     ("out", nn.Linear(8, 3))])  # fmt: skip
    )
)
activation, gradients = {}, defaultdict(list)


def get_activation(name):
    def hook(model, input, output):
        activation[name] = output.detach()

    return hook


handles = []
for name, module in model.named_modules():
    if isinstance(module, nn.Linear):
        handles.append(module.register_forward_hook(get_activation(name)))
        handles.append(
            module.register_full_backward_hook(
                lambda m, gi, go, name=name: gradients[name].append((gi[0].norm().item(), go[0].norm().item()))
            )
        )
handles.append(model.fc2.register_forward_pre_hook(lambda m, args: (args[0] * 2,)))
handles.append(model.act2.register_forward_hook(lambda m, i, o: o.clamp(0.1, 0.9)))
handles.append(model.out.register_full_backward_pre_hook(lambda m, go: (go[0] * 0.5,)))
x = noise(rng, 5, 6).requires_grad_()
out = model(x)
h = out.register_hook(lambda g: g * 3)
out.retain_grad()
out.pow(2).sum().backward()
print({k: tuple(v.shape) for k, v in activation.items()}, activation["fc2"].sum().item())
print(dict(gradients))
print(x.grad.norm().item(), out.grad.norm().item(), model.fc1.weight.grad.norm().item())
for handle in handles:
    handle.remove()
h.remove()
model.zero_grad()
model(x).sum().backward()
print(len(gradients["fc1"]), model.fc1.weight.grad.norm().item())

seen = []
params = dict(model.named_parameters())
for name, p in params.items():
    p.register_post_accumulate_grad_hook(lambda p, name=name: seen.append((name, p.grad.abs().sum().item())))
model.zero_grad()
model(x).sum().backward()
print(sorted(seen))
y = (x * 2).sum()
print(y.grad_fn.next_functions[0][0].name(), y.grad_fn.name(), y.grad_fn.next_functions[0][0].next_functions[0][0].name())


class Clip(nn.Module):
    def __init__(self, limit):
        super().__init__()
        self.register_buffer("limit", torch.tensor(limit))
        self.calls = 0
        self._register_load_state_dict_pre_hook(lambda sd, prefix, *_: sd.setdefault(prefix + "limit", torch.tensor(9.0)))

    def forward(self, x, *, scale=1.0):
        return (x * scale).clamp(max=self.limit)


clip = Clip(1.0)
clip.register_forward_pre_hook(lambda m, a, k: (a, {**k, "scale": k.get("scale", 1.0) * 10}), with_kwargs=True)
print(clip(torch.tensor([0.01, 0.05, 3.0]), scale=2.0).tolist(), clip.load_state_dict({}), clip.limit.item())
assert len(seen) == len(params)
