"""Modules and tensors to PyTorch and back.

A layer is made anew on the other side by its class's name and constructor arguments, which both libraries keep as
attributes of the same names; then weights and buffers are copied, tied weights tied again, and the training mode set.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import Any

import numpy as np

from .. import nn
from ..core.variable import Variable, wrap

__all__ = ["from_torch", "to_torch"]

_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size")
_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "chainrule.bridge.torch needs PyTorch, which is not installed: pip install torch==2.13.0"
        ) from error
    return torch


def to_torch(x: Any) -> Any:
    """A PyTorch module (or tensor) equal to a chainrule one; nothing is shared.

    Raises:
        TypeError: naming the first module that is not a standard layer, and its place.
    """
    torch = _torch()
    if isinstance(x, Variable):
        copied = torch.from_numpy(np.array(x._array))
        return (
            torch.nn.Parameter(copied, x._requires)
            if isinstance(x, nn.Parameter)
            else copied.requires_grad_(x._requires)
        )
    return _convert(x, nn.Module, torch.nn, to_torch, "to_torch")


def from_torch(x: Any) -> Any:
    """A chainrule module (or tensor) equal to a PyTorch one; nothing is shared.

    Raises:
        TypeError: naming the first module that is not a standard layer, and its place.
    """
    torch = _torch()
    if isinstance(x, torch.Tensor):
        plain = x.detach().cpu()
        plain = plain.float() if plain.dtype is torch.bfloat16 else plain
        copied = wrap(np.array(plain.numpy()))
        if isinstance(x, torch.nn.Parameter):
            return nn.Parameter(copied, x.requires_grad)
        copied._requires = x.requires_grad
        return copied
    return _convert(x, torch.nn.Module, nn, from_torch, "from_torch")


def _convert(module: Any, base: type, room: Any, tensor: Any, name: str) -> Any:
    if not isinstance(module, base):
        raise TypeError(f"{name} expects a module or a tensor, not {type(module).__name__}")
    made = _make(module, room, name, "")
    state = module.state_dict()
    made.load_state_dict(OrderedDict((k, tensor(v)) for k, v in state.items()), assign=True)
    new = dict(made.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    for path, p in module.named_parameters(remove_duplicate=False):
        known = first.setdefault(id(p), path)
        if known == path:
            new[path].requires_grad_(p.requires_grad)
        else:
            owner, _, leaf = path.rpartition(".")
            setattr(made.get_submodule(owner), leaf, new[known])
    for (_, a), (_, b) in zip(module.named_modules(), made.named_modules(), strict=True):
        b.training = a.training
    return made


def _standard(module: Any) -> bool:
    return type(module).__module__.startswith(("torch.nn.", "chainrule.nn."))


def _make(module: Any, room: Any, name: str, path: str) -> Any:
    kind = type(module).__name__
    target = getattr(room, kind, None)
    if target is None or not _standard(module):
        raise TypeError(
            f"{name}: {path or 'the module'} is a {kind}, which is no standard layer of both libraries\n"
            "  Make the same class on the other side, and load this one's state_dict into it."
        )
    inner = f"{path}." if path else ""
    if kind in _CONTAINERS:
        parts = OrderedDict((k, _make(m, room, name, inner + k)) for k, m in module.named_children())
        return target(list(parts.values())) if kind == "ModuleList" else target(parts)
    if kind in ("TransformerEncoder", "TransformerDecoder"):
        layer = _make(module.layers[0], room, name, f"{inner}layers.0")
        norm = None if module.norm is None else _make(module.norm, room, name, f"{inner}norm")
        return target(layer, module.num_layers, norm)
    return target(**_arguments(module, target, kind))


def _arguments(module: Any, target: Any, kind: str) -> dict[str, Any]:
    """The constructor's arguments, read off a layer."""
    if kind in ("RNN", "LSTM", "GRU"):
        names = list(_RECURRENT) + (["nonlinearity"] if kind == "RNN" else [])
        found = {n: getattr(module, n) for n in names if hasattr(module, n)}
        if kind != "LSTM":
            found.pop("proj_size", None)
        return found
    if kind in ("TransformerEncoderLayer", "TransformerDecoderLayer"):
        attention = module.self_attn
        return {
            "d_model": attention.embed_dim,
            "nhead": attention.num_heads,
            "dim_feedforward": module.linear1.out_features,
            "dropout": module.dropout.p,
            "activation": _activation(module.activation),
            "layer_norm_eps": module.norm1.eps,
            "batch_first": attention.batch_first,
            "norm_first": module.norm_first,
            "bias": module.linear1.bias is not None,
        }
    if kind == "MultiheadAttention":
        found = {n: getattr(module, n) for n in ("embed_dim", "num_heads", "dropout", "add_zero_attn", "batch_first")}
        found["bias"] = module.in_proj_bias is not None
        found["add_bias_kv"] = module.bias_k is not None
        found["kdim"], found["vdim"] = module.kdim, module.vdim
        return found
    found = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if name in ("self", "device", "dtype") or name.startswith("_"):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name == "bias":
            value = getattr(module, "bias", None)
            found[name] = value if isinstance(value, bool) else value is not None
        elif name in ("weight", "pos_weight"):  # of a loss: its state_dict brings the values
            value = getattr(module, name, None)
            if value is not None:
                found[name] = (to_torch if isinstance(value, Variable) else from_torch)(value)
        elif hasattr(module, name):
            found[name] = getattr(module, name)
        elif parameter.default is parameter.empty:
            raise TypeError(f"cannot read the argument {name!r} of {kind}")
    return found


def _activation(function: Any) -> Any:
    name = getattr(function, "__name__", type(function).__name__).lower()
    if name not in ("relu", "gelu"):
        raise TypeError(f"a transformer layer with the activation {name!r} cannot be converted")
    return name
