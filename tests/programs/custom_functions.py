"""Custom autograd functions: saved tensors, several inputs, non-differentiable outputs, setup_context, double backward."""

import math

import numpy as np
import torch
from torch.autograd import Function, gradcheck, gradgradcheck
from torch.autograd.function import once_differentiable


class LegendrePolynomial3(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return 0.5 * (5 * input**3 - 3 * input)

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        return grad_output * 1.5 * (5 * input**2 - 1)


class LinearFunction(Function):
    @staticmethod
    def forward(input, weight, bias):
        output = input.mm(weight.t())
        if bias is not None:
            output += bias.unsqueeze(0).expand_as(output)
        return output

    @staticmethod
    def setup_context(ctx, inputs, output):
        input, weight, bias = inputs
        ctx.save_for_backward(input, weight, bias)

    @staticmethod
    def backward(ctx, grad_output):
        input, weight, bias = ctx.saved_tensors
        grad_input = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_input = grad_output.mm(weight)
        if ctx.needs_input_grad[1]:
            grad_weight = grad_output.t().mm(input)
        if bias is not None and ctx.needs_input_grad[2]:
            grad_bias = grad_output.sum(0)
        return grad_input, grad_weight, grad_bias


class StraightThrough(Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.slope = slope
        return torch.sign(x)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.slope, None


class SortWithOrder(Function):
    @staticmethod
    def forward(ctx, x):
        values, order = torch.sort(x)
        ctx.mark_non_differentiable(order)
        ctx.save_for_backward(order)
        return values, order

    @staticmethod
    @once_differentiable
    def backward(ctx, g, _):
        (order,) = ctx.saved_tensors
        return torch.zeros_like(g).scatter_(0, order, g)


class GradientReversal(Function):
    @staticmethod
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output.neg() * ctx.alpha, None


class Exp(Function):
    @staticmethod
    def forward(ctx, i):
        result = i.exp()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, grad_output):
        (result,) = ctx.saved_tensors
        return grad_output * result


x = torch.linspace(-math.pi, math.pi, 2000, dtype=torch.float)
y = torch.sin(x)
a, b, c, d = (torch.full((), v, requires_grad=True) for v in (0.0, -1.0, 0.0, 0.3))
losses = []
for t in range(300):
    P3 = LegendrePolynomial3.apply
    y_pred = a + b * P3(c + d * x)
    loss = (y_pred - y).pow(2).sum()
    losses.append(loss.item())
    loss.backward()
    with torch.no_grad():
        for p in (a, b, c, d):
            p -= 5e-6 * p.grad
            p.grad = None
print(losses[0], losses[-1], a.item(), b.item(), c.item(), d.item())
assert losses[-1] < losses[0] / 3

rng = np.random.default_rng(0)
inputs = [torch.from_numpy(rng.standard_normal(s)).requires_grad_() for s in ((4, 3), (2, 3), (2,))]
print(gradcheck(LinearFunction.apply, inputs), gradgradcheck(LinearFunction.apply, inputs))
print(LinearFunction.apply(*inputs).sum().item(), gradcheck(Exp.apply, inputs[2]), gradgradcheck(Exp.apply, inputs[2]))

u = torch.tensor([0.3, -2.0, 1.0], requires_grad=True)
(StraightThrough.apply(u, 0.5) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
print(u.grad.tolist())
u.grad = None
values, order = SortWithOrder.apply(u)
(values * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
print(values.tolist(), order.tolist(), u.grad.tolist(), order.requires_grad)
u.grad.zero_()
(GradientReversal.apply(u, 2.0) ** 2).sum().backward()
print(u.grad.tolist(), GradientReversal.apply(u, 1.0).grad_fn is not None)
