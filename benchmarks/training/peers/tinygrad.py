"""tinygrad: the whole step under TinyJit on the CPU device, with the LLVM renderer where LLVM's library is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..workloads import CONTEXT, HEADS, LAYERS, LR, VOCABULARY, Workload, data, fill, parameters, workload
from . import clang

__all__ = ["load", "step", "supports"]


def supports(w: Workload, optimizer: str) -> bool:
    return w.kind != "hvp"


def load(threads: int) -> None:
    os.environ.setdefault("CC", clang() or "clang")
    if "DEV" not in os.environ:
        os.environ["DEV"] = "CPU:LLVM"
        try:
            from tinygrad.runtime.autogen import llvm

            llvm.LLVMContextCreate()
        except (AttributeError, OSError, ImportError):
            os.environ["DEV"] = "CPU"
    import tinygrad  # noqa: F401


def forward(w: Workload) -> Callable[[Any, Any], Any]:
    """The network as a function of its parameters (in PyTorch's order and layout) and the input."""
    from tinygrad import Tensor

    def mlp(p: Any, x: Any) -> Any:
        for i in range(0, len(p), 2):
            x = x.linear(p[i].T, p[i + 1])
            if i + 2 < len(p):
                x = x.tanh() if w.loss == "mse" else x.relu()
        return x

    def residual(p: Any, x: Any) -> Any:
        for i in range(len(w.widths) - 1):
            a, b, g, c = p[4 * i : 4 * i + 4]
            h = x.linear(a.T, b)
            d = h - h.mean(0)
            x = x + (d * ((d * d).mean(0) + 1e-5).rsqrt() * g + c).relu()
        return x.linear(p[-2].T, p[-1])

    def cnn(p: Any, x: Any) -> Any:
        for i in (0, 2):
            x = x.conv2d(p[i], p[i + 1], padding=1).relu().max_pool2d(2)
        return x.flatten(1).linear(p[4].T, p[5]).relu().linear(p[6].T, p[7])

    def lstm(p: Any, x: Any) -> Any:
        h = c = Tensor.zeros(x.shape[0], 64)
        steps = (x.reshape(-1, 64).linear(p[0].T, p[2])).reshape(x.shape[0], -1, 256)
        for t in range(x.shape[1]):
            i, f, g, o = (steps[:, t] + h.linear(p[1].T, p[3])).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            h, c = h.contiguous(), c.contiguous()
        return h.linear(p[4].T, p[5])

    def norm(x: Any, g: Any, b: Any) -> Any:
        return x.layernorm(eps=1e-5) * g + b

    def transformer(p: Any, x: Any) -> Any:
        x = p[0][x] + p[1]
        for i in range(LAYERS):
            q = p[2 + 12 * i : 14 + 12 * i]
            b, t, c = x.shape
            qkv = norm(x, q[0], q[1]).linear(q[2].T, q[3])
            heads = [a.reshape(b, t, HEADS, c // HEADS).transpose(1, 2) for a in qkv.chunk(3, dim=-1)]
            a = heads[0].scaled_dot_product_attention(heads[1], heads[2], is_causal=True)
            x = x + a.transpose(1, 2).reshape(b, CONTEXT, c).linear(q[4].T, q[5])
            x = x + norm(x, q[6], q[7]).linear(q[8].T, q[9]).gelu().linear(q[10].T, q[11])
        return norm(x, p[-4], p[-3]).linear(p[-2].T, p[-1]).reshape(-1, VOCABULARY)

    return {"mlp": mlp, "residual": residual, "cnn": cnn, "lstm": lstm, "transformer": transformer}[w.kind]


def step(library: str, name: str) -> Callable[[], Any]:
    from tinygrad import Context, Tensor, TinyJit, nn

    w, which = workload(name)
    if not w.trains:
        return function(w)
    predict = forward(w)
    p = [Tensor(a).is_param_(True).realize() for a in fill(*parameters(w))]
    make = nn.optim.SGD if which == "sgd" else nn.optim.Adam
    optimizer = make(p, lr=LR[which])
    xa, ya = data(w)
    x, y = Tensor(xa).realize(), Tensor(ya.reshape(-1) if w.loss == "ce" else ya).realize()

    @TinyJit
    @Context(TRAINING=1)
    def training(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        out = predict(p, x)
        loss = (out - y).square().mean() if w.loss == "mse" else out.sparse_categorical_crossentropy(y)
        loss.backward()
        if w.clip:
            norm = sum(t.grad.square().sum() for t in p).sqrt()
            factor = (1.0 / (norm + 1e-6)).minimum(1.0).contiguous()
            for t in p:
                t.grad = t.grad * factor
        return loss.realize(*optimizer.schedule_step())

    return lambda: training(x, y).item()


def function(w: Workload) -> Callable[[], Any]:
    """A function workload."""
    from tinygrad import Device, Tensor, TinyJit

    from .chainrule import summary

    xa, _ = data(w)
    x = Tensor(xa).realize()

    def chain(x: Any) -> Any:
        y = x
        for _ in range(5):
            y = (y * 0.9 + x).abs() - 0.1
        return y

    def layernorm(x: Any) -> Any:
        return x.layernorm(eps=1e-5) * weight + bias

    if w.kind == "layernorm":
        weight, bias = Tensor(xa[0]).realize(), Tensor(xa[1]).realize()
    program = {"chain": chain, "softmax": lambda x: x.softmax(-1), "layernorm": layernorm}[w.kind]
    call = TinyJit(lambda x: program(x).realize())

    def once() -> Any:
        out = call(x)
        Device[Device.DEFAULT].synchronize()
        return out

    result: Any = once
    result.look = lambda r: summary(r.numpy())
    return result
