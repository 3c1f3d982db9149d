import torch
import torch.nn as nn
import torch.nn.functional as F
import numpy as np
from functools import partial
from torch.func import functional_call, vmap, grad, vjp, jvp, jacrev, jacfwd, hessian, grad_and_value, stack_module_state, linearize
from start import same_start, noise
import copy

rng = np.random.default_rng(0)


class SimpleCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, 1)
        self.conv2 = nn.Conv2d(4, 8, 3, 1)
        self.fc1 = nn.Linear(72, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, x):
        x = self.conv1(x)
        x = F.relu(x)
        x = self.conv2(x)
        x = F.relu(x)
        x = F.max_pool2d(x, 2)
        x = torch.flatten(x, 1)
        x = self.fc1(x)
        x = F.relu(x)
        x = self.fc2(x)
        output = F.log_softmax(x, dim=1)
        return output


def loss_fn(predictions, targets):
    return F.nll_loss(predictions, targets)


model = same_start(SimpleCNN())
data, targets = noise(rng, 6, 1, 10, 10), torch.from_numpy(rng.integers(0, 10, 6))


def compute_grad(sample, target):
    sample = sample.unsqueeze(0)
    target = target.unsqueeze(0)
    prediction = model(sample)
    loss = loss_fn(prediction, target)
    return torch.autograd.grad(loss, list(model.parameters()))


def compute_sample_grads(data, targets):
    sample_grads = [compute_grad(data[i], targets[i]) for i in range(len(data))]
    sample_grads = zip(*sample_grads)
    return [torch.stack(shards) for shards in sample_grads]


per_sample_grads = compute_sample_grads(data, targets)
params = {k: v.detach() for k, v in model.named_parameters()}
buffers = {k: v.detach() for k, v in model.named_buffers()}


def compute_loss(params, buffers, sample, target):
    batch = sample.unsqueeze(0)
    targets = target.unsqueeze(0)
    predictions = functional_call(model, (params, buffers), (batch,))
    return loss_fn(predictions, targets)


ft_compute_grad = grad(compute_loss)
ft_compute_sample_grad = vmap(ft_compute_grad, in_dims=(None, None, 0, 0))
ft = ft_compute_sample_grad(params, buffers, data, targets)
for a, b in zip(per_sample_grads, ft.values()):
    assert torch.allclose(a, b, atol=3e-3, rtol=1e-5)
print({k: (tuple(v.shape), round(v.norm().item(), 4)) for k, v in ft.items()})


# neural tangent kernel
def fnet_single(params, x):
    return functional_call(model, params, (x.unsqueeze(0),)).squeeze(0)


def empirical_ntk_jacobian_contraction(fnet_single, params, x1, x2, compute='full'):
    jac1 = vmap(jacrev(fnet_single), (None, 0))(params, x1)
    jac1 = jac1.values()
    jac1 = [j.flatten(2) for j in jac1]
    jac2 = vmap(jacrev(fnet_single), (None, 0))(params, x2)
    jac2 = jac2.values()
    jac2 = [j.flatten(2) for j in jac2]
    einsum_expr = {'full': 'Naf,Mbf->NMab', 'trace': 'Naf,Maf->NM', 'diagonal': 'Naf,Maf->NMa'}[compute]
    result = torch.stack([torch.einsum(einsum_expr, j1, j2) for j1, j2 in zip(jac1, jac2)])
    return result.sum(0)


x1, x2 = data[:3], data[3:5]
k1 = empirical_ntk_jacobian_contraction(fnet_single, params, x1, x2)
print(k1.shape, k1.sum().item(), empirical_ntk_jacobian_contraction(fnet_single, params, x1, x2, 'trace'))


def empirical_ntk_ntk_vps(func, params, x1, x2, compute='full'):
    def get_ntk(x1, x2):
        def func_x1(params):
            return func(params, x1)

        def func_x2(params):
            return func(params, x2)

        output, vjp_fn = vjp(func_x1, params)

        def get_ntk_slice(vec):
            vjps = vjp_fn(vec)
            _, jvps = jvp(func_x2, (params,), vjps)
            return jvps

        basis = torch.eye(output.numel(), dtype=output.dtype, device=output.device).view(output.numel(), -1)
        return vmap(get_ntk_slice)(basis)

    result = vmap(vmap(get_ntk, (None, 0)), (0, None))(x1, x2)
    if compute == 'full':
        return result
    return torch.einsum('NMKK->NM', result)


k2 = empirical_ntk_ntk_vps(fnet_single, params, x1, x2)
assert torch.allclose(k1, k2, atol=1e-4), (k1 - k2).abs().max()


# jacobians and hessians
def predict(weight, bias, x):
    return F.linear(x, weight, bias).tanh()


D = 5
weight, bias, x = noise(rng, D, D), noise(rng, D), noise(rng, D)
jac = jacrev(predict, argnums=2)(weight, bias, x)
fwd = jacfwd(predict, argnums=2)(weight, bias, x)
assert torch.allclose(jac, fwd, atol=1e-6)
unit_vectors = torch.eye(D)
_, vjp_fn = vjp(partial(predict, weight, bias), x)
ft_jacobian, = vmap(vjp_fn)(unit_vectors)
assert torch.allclose(ft_jacobian, jac)
hess = hessian(predict, argnums=2)(weight, bias, x)
hess_fwdrev = jacfwd(jacrev(predict, argnums=2), argnums=2)(weight, bias, x)
hess_revrev = jacrev(jacrev(predict, argnums=2), argnums=2)(weight, bias, x)
print(hess.shape, hess.sum().item(), (hess - hess_fwdrev).abs().max().item() < 1e-5, (hess - hess_revrev).abs().max().item() < 1e-5)
xb = noise(rng, 7, D)
print(vmap(jacrev(predict, argnums=2), in_dims=(None, None, 0))(weight, bias, xb).shape)


def hvp(f, primals, tangents):
    return jvp(grad(f), primals, tangents)[1]


print(hvp(lambda x: x.sin().sum(), (x,), (torch.ones(D),)))

# ensembling
models = [same_start(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), i) for i in range(3)]
eparams, ebuffers = stack_module_state(models)
base_model = copy.deepcopy(models[0]).to('meta') if False else copy.deepcopy(models[0])


def fmodel(params, buffers, x):
    return functional_call(base_model, (params, buffers), (x,))


minibatches = noise(rng, 3, 5, 4)
preds1 = vmap(fmodel)(eparams, ebuffers, minibatches)
preds2 = vmap(fmodel, in_dims=(0, 0, None))(eparams, ebuffers, minibatches[0])
for i in range(3):
    assert torch.allclose(preds1[i], models[i](minibatches[i]), atol=1e-6)
print(preds1.shape, preds2.sum().item())
g, v = grad_and_value(lambda p, x: (p["w"] * x).sum() ** 2)({"w": torch.ones(3)}, torch.arange(3.))
print(g, v)
g, (v, aux) = grad_and_value(lambda w: ((w ** 2).sum(), w * 2), has_aux=True)(torch.ones(2))
print(g, v, aux)
# model-agnostic: batched dot, in_dims/out_dims
print(vmap(torch.dot)(torch.arange(6.).view(2, 3), torch.ones(2, 3)), vmap(lambda a: a.sum(0), in_dims=1, out_dims=0)(torch.arange(6.).view(2, 3)))
print(vmap(torch.mv, in_dims=(None, 1), out_dims=1)(torch.eye(3), torch.arange(6.).view(3, 2)))
import torch.autograd.forward_ad as fwAD
primal, tangent = noise(rng, 3, 3), noise(rng, 3, 3)


def fn(x, y):
    return x ** 2 + y ** 2


with fwAD.dual_level():
    dual_input = fwAD.make_dual(primal, tangent)
    assert fwAD.unpack_dual(dual_input).tangent is tangent
    dual_output = fn(dual_input, dual_input * 2)
    jvp_ = fwAD.unpack_dual(dual_output).tangent
    plain = fn(primal, primal)
print(jvp_, fwAD.unpack_dual(plain).tangent)
m = same_start(nn.Linear(5, 5))
inp = noise(rng, 16, 5)
with fwAD.dual_level():
    ps = dict(m.named_parameters())
    for name, p in ps.items():
        delattr(m, name)
        setattr(m, name, fwAD.make_dual(p, torch.ones_like(p)))
    out = m(inp)
    print(fwAD.unpack_dual(out).tangent.sum().item())
out, t = torch.autograd.functional.jvp(lambda x: x.exp(), x, torch.ones(5))
print(out, t)
