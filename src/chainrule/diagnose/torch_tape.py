"""The same tape, read from a ``torch.nn.Module``: PyTorch's autograd nodes, their saved values and hooks.

Forward calls are seen through a ``TorchFunctionMode``, modules through global hooks, gradients through hooks on the
autograd nodes. The backward pass is ``torch.autograd.grad``: no ``.grad`` is touched.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from typing import Any

import numpy as np

from ..core.locate import Place
from .tape import LN2, Call, Step, Tape, finite, kind_of, log_norm

__all__ = ["record"]

_NAMES = {
    "AddmmBackward0": "linear",
    "LinearBackward0": "linear",
    "MmBackward0": "matmul",
    "BmmBackward0": "matmul",
    "MvBackward0": "matmul",
    "DotBackward0": "matmul",
    "BaddbmmBackward0": "matmul",
    "AddmvBackward0": "linear",
    "ConvolutionBackward0": "conv",
    "MkldnnConvolutionBackward0": "conv",
    "EmbeddingBackward0": "embedding",
    "NativeLayerNormBackward0": "layer_norm",
    "NativeBatchNormBackward0": "batch_norm",
    "CudnnBatchNormBackward0": "batch_norm",
    "NativeGroupNormBackward0": "group_norm",
    "LogSoftmaxBackward0": "log_softmax",
    "SoftmaxBackward0": "softmax",
    "NllLossBackward0": "nll",
    "NllLoss2DBackward0": "nll",
    "MseLossBackward0": "mse",
    "BinaryCrossEntropyBackward0": "bce",
    "BinaryCrossEntropyWithLogitsBackward0": "bce_logits",
    "SmoothL1LossBackward0": "huber",
    "HuberLossBackward0": "huber",
    "LogSigmoidBackward0": "logsigmoid",
    "HardtanhBackward0": "hardtanh",
    "TBackward0": "swap",
    "ViewBackward0": "reshape",
    "UnsafeViewBackward0": "reshape",
    "ReshapeAliasBackward0": "reshape",
    "TransposeBackward0": "swap",
    "PermuteBackward0": "permute",
    "SelectBackward0": "getitem",
    "SliceBackward0": "getitem",
    "IndexBackward0": "index",
    "ToCopyBackward0": "cast",
    "CloneBackward0": "clone",
    "ExpandBackward0": "expand",
    "SqueezeBackward0": "reshape",
    "SqueezeBackward1": "reshape",
    "UnsqueezeBackward0": "reshape",
    "LeakyReluBackward0": "leaky_relu",
    "MkldnnRnnLayerBackward0": "recurrent_layer",
}

_FUNCTIONS = {
    "relu_": "relu",
    "sigmoid_": "sigmoid",
    "tanh_": "tanh",
    "batch_norm": "batch_norm",
    "conv1d": "conv",
    "conv2d": "conv",
    "conv3d": "conv",
    "binary_cross_entropy": "bce",
    "mse_loss": "mse",
    "l1_loss": "l1",
    "binary_cross_entropy_with_logits": "bce_logits",
    "nll_loss": "nll",
    "smooth_l1_loss": "huber",
    "huber_loss": "huber",
    "__getitem__": "getitem",
    "true_divide": "div",
    "__truediv__": "div",
}


def op_name(node: Any) -> str:
    """chainrule's word for one of PyTorch's node types."""
    name = node.name()
    if name in _NAMES:
        return _NAMES[name]
    name = name.rsplit("Backward", 1)[0]
    out = "".join(("_" if i and c.isupper() else "") + c.lower() for i, c in enumerate(name))
    return out


def array(x: Any) -> Any:
    """A tensor's values as a NumPy array; other things as they are."""
    torch: Any = importlib.import_module("torch")

    if isinstance(x, torch.Tensor):
        try:
            with torch._C.DisableTorchFunction():
                t = x.detach()
                return t.numpy() if t.dtype is not torch.bfloat16 else t.float().numpy()
        except (RuntimeError, TypeError):
            return None
    return x


class _Watch:
    """Builds the mode class when PyTorch is there."""

    @staticmethod
    def make(parameters: dict[int, str], stack: list[Any]) -> Any:
        torch: Any = importlib.import_module("torch")
        TorchFunctionMode: Any = importlib.import_module("torch.overrides").TorchFunctionMode

        root = os.path.dirname(torch.__file__)
        own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

        class Mode(TorchFunctionMode):
            def __init__(self) -> None:
                super().__init__()
                self.calls: list[Call] = []
                self.by_node: dict[Any, tuple[Call, Any]] = {}
                self.used: set[str] = set()
                self.first_bad: Call | None = None
                self.keep: list[Any] = []

            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                out = func(*args, **(kwargs or {}))
                name = getattr(func, "__name__", "")
                if name in ("__get__", "__set__", "size", "dim", "detach_") or not isinstance(
                    out, (torch.Tensor, tuple, list)
                ):
                    return out
                outs = out if isinstance(out, (tuple, list)) else (out,)
                tensors = [o for o in outs if isinstance(o, torch.Tensor)]
                if not tensors:
                    return out
                call = Call()
                call.op = _FUNCTIONS.get(name, name.strip("_"))
                call.params = dict(kwargs or {})
                ins = [*args, *(kwargs or {}).values()]
                flat: list[Any] = []
                for a in ins:
                    flat.extend(a if isinstance(a, (tuple, list)) else (a,))
                call.inputs = tuple(array(a) for a in flat)
                with torch._C.DisableTorchFunction():
                    call.nodes = tuple(a.grad_fn if isinstance(a, torch.Tensor) else None for a in flat)
                    call.requires = tuple(isinstance(a, torch.Tensor) and a.requires_grad for a in flat)
                    call.outs = tuple(array(t) for t in tensors)
                    call.grad = any(t.requires_grad for t in tensors)
                    call.module = stack[-1] if stack else None
                    frame: Any = sys._getframe(1)
                    while frame is not None and (
                        frame.f_code.co_filename.startswith((root, own)) or frame.f_code.co_filename.startswith("<")
                    ):
                        frame = frame.f_back
                    call.code, call.lasti = (None, 0) if frame is None else (frame.f_code, frame.f_lasti)
                    for a in flat:
                        if isinstance(a, torch.Tensor) and id(a) in parameters:
                            self.used.add(parameters[id(a)])
                    for t in tensors:
                        if t.grad_fn is not None:
                            self.by_node[t.grad_fn] = (call, array(t))
                            self.keep.append(t)
                    self.calls.append(call)
                    if self.first_bad is None and not finite(*call.outs) and finite(*call.inputs):
                        self.first_bad = call
                return out

        return Mode()


_SAVED_OUT = ("_saved_result", "_saved_output")
_SAVED_IN = {
    "linear": ("_saved_mat1", "_saved_mat2"),
    "matmul": ("_saved_self", "_saved_mat2"),
    "conv": ("_saved_input", "_saved_weight"),
    "layer_norm": ("_saved_input", "_saved_weight"),
    "batch_norm": ("_saved_input", "_saved_weight"),
    "nll": ("_saved_self", "_saved_target"),
    "mse": ("_saved_self", "_saved_target"),
    "bce": ("_saved_self", "_saved_target"),
    "bce_logits": ("_saved_self", "_saved_target"),
    "huber": ("_saved_self", "_saved_target"),
}


def _saved(node: Any, name: str) -> Any:
    try:
        return array(getattr(node, name))
    except (AttributeError, RuntimeError):
        return None


def record(model: Any, forward: Any, names: dict[int, str]) -> Tape:
    """As ``tape.record``, for PyTorch."""
    torch: Any = importlib.import_module("torch")
    modules: Any = importlib.import_module("torch.nn.modules.module")

    tape = Tape()
    own = {id(p): n for n, p in model.named_parameters()}
    stack: list[Any] = []
    called: set[str] = tape.called

    def enter(m: Any, _: Any) -> None:
        stack.append((m, stack[-1] if stack else None))
        if id(m) in names:
            called.add(names[id(m)])

    def leave(m: Any, _: Any, __: Any) -> None:
        if stack:
            stack.pop()

    mode = _Watch.make(own, stack)
    a, b = modules.register_module_forward_pre_hook(enter), modules.register_module_forward_hook(leave)
    try:
        # oneDNN runs a recurrent layer as one opaque node; without it the steps through time show.
        with torch.backends.mkldnn.flags(enabled=False), mode:
            tape.output, tape.loss = forward()
    finally:
        a.remove()
        b.remove()
    tape.calls, tape.used, tape.first_bad = mode.calls, mode.used, mode.first_bad
    loss = tape.loss
    if not isinstance(loss, torch.Tensor) or loss.grad_fn is None:
        return tape
    _backward(tape, model, loss, mode, names, own)
    return tape


def _order(root: Any) -> list[Any]:
    """All nodes behind root, inputs before outputs (depth first, without recursion)."""
    done: set[Any] = set()
    order: list[Any] = []
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
            continue
        if node in done:
            continue
        done.add(node)
        stack.append((node, True))
        for parent, _ in node.next_functions:
            if parent is not None and parent not in done:
                stack.append((parent, False))
    return order


def _backward(tape: Tape, model: Any, loss: Any, mode: Any, names: dict[int, str], own: dict[int, str]) -> None:
    torch: Any = importlib.import_module("torch")

    order = list(_order(loss.grad_fn))
    steps: dict[Any, Step] = {}
    inherited: dict[Any, tuple[str, str, Place | None]] = {}

    def named(chain: Any) -> tuple[str, str]:
        while chain is not None:
            m, chain = chain
            if names.get(id(m)):
                return names[id(m)], type(m).__name__
        return "", ""

    # Nodes inside one Python-level call inherit its module and line from the node that came out of the call.
    for node in reversed(order):
        seen = mode.by_node.get(node)
        if seen is not None:
            inherited[node] = (*named(seen[0].module), seen[0].place)
        where = inherited.get(node, ("", "", None))
        for parent, _ in node.next_functions:
            if parent is not None and parent not in inherited:
                inherited[parent] = where
    for i, node in enumerate(order):
        if node.name() == "torch::autograd::AccumulateGrad":
            continue
        step = Step(op_name(node), *inherited.get(node, ("", "", None)), i)
        seen = mode.by_node.get(node)
        if seen is not None:
            call, step.out = seen
            step.params = call.params
            if call.op == step.op or kind_of(step.op) == kind_of(call.op) or call.op in step.op:
                step.inputs = list(call.inputs)
        if step.out is None:
            for name in _SAVED_OUT:
                step.out = _saved(node, name)
                if step.out is not None:
                    break
        if not step.inputs and step.op in _SAVED_IN:
            step.inputs = [_saved(node, n) for n in _SAVED_IN[step.op]]
        for n in ("_saved_dim",):
            if hasattr(node, n):
                step.params = {**step.params, "dim": getattr(node, n)}
        for parent, _ in node.next_functions:
            if parent is None:
                step.parents.append(None)
            elif parent.name() == "torch::autograd::AccumulateGrad":
                step.parents.append(own.get(id(parent.variable), "leaf"))
            else:
                steps[parent].consumers.append(step)
                step.parents.append(steps[parent])
        _reorder(step, node)
        steps[node] = step
    tape.steps = [steps[n] for n in order if n in steps]
    tape.last = tape.steps[-1]
    handles = []

    def watch(node: Any, step: Step) -> None:
        def hook(grads_in: Any, grads_out: Any) -> None:
            outs = [array(g) for g in grads_out if g is not None]
            if outs:
                step.total = 0.5 * float(np.logaddexp.reduce([2 * log_norm(x) for x in outs]))
                if step.kind == "activation" and outs[0].ndim > 1:
                    step.zero_rows = float((np.abs(outs[0]).reshape(len(outs[0]), -1).max(axis=1) == 0).mean())
            ins = [None if g is None else array(g) for g in grads_in]
            sent = [None if g is None else log_norm(g) for g in ins]
            step.sent = [sent[i] for i in _ORDER.get(step.op, range(len(sent))) if i < len(sent)]
            bad = next((g for g in ins if g is not None and not np.isfinite(g).all()), None)
            if tape.backward_bad is None and bad is not None and finite(*outs):
                tape.backward_bad = (step, bad, outs[0] if len(outs) == 1 else tuple(outs))

        handles.append(node.register_hook(hook))

    for node, step in steps.items():
        watch(node, step)
    parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    # A large seed keeps small gradients off the bottom of float32's range; the logarithms take it back out.
    top = 20 if loss.dtype is torch.float32 else 0
    seed = torch.ones_like(loss) * 2.0**top
    found = torch.autograd.grad(loss, [p for _, p in parameters], seed, allow_unused=True) if parameters else ()
    for (name, _), g in zip(parameters, found, strict=True):
        if g is not None:
            tape.parameter_grads[name] = log_norm(array(g)) - top * LN2
            tape.parameter_arrays[name] = (array(g), -top)
    for step in tape.steps:
        step.total -= top * LN2
        step.sent = [None if s is None else s - top * LN2 for s in step.sent]
    for h in handles:
        h.remove()
    _forget_zero(tape)


_ORDER = {"linear": (1, 2, 0)}
"""addmm(bias, input, weight): brought to the order of linear(input, weight, bias)."""


def _reorder(step: Step, node: Any) -> None:
    if node.name() == "AddmmBackward0" and len(step.parents) == 3:
        b, x, w = step.parents
        step.parents = [x, w, b]


def _forget_zero(tape: Tape) -> None:
    for step in tape.steps:
        if math.isnan(step.total):
            step.finite = False
