"""Modules and tensors to PyTorch and back.

A standard layer is made anew on the other side by its class's name and constructor arguments, which both libraries keep
as attributes of the same names. A class of your own is rewritten for the other library (see ``rewrite``), its instance
copied attribute by attribute. Then parameters and buffers are copied: what was one tensor stays one tensor, and flags,
dtypes and the training mode stay as they are.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from .. import nn
from ..core.dtypes import BFLOAT16
from ..core.variable import Variable, wrap
from .rewrite import Rewriter

__all__ = ["from_torch", "to_torch"]

_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size")
_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
_ALIASES = {"NonDynamicallyQuantizableLinear": "Linear"}  # PyTorch's out_proj of attention
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


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

    Modules of your own classes are carried over too, if what they use exists in PyTorch.

    Raises:
        TypeError: naming the first module that cannot be made on the other side, its place, and why.
    """
    torch = _torch()
    import chainrule

    return _Conversion("to_torch", chainrule, torch, nn.Module, _tensor_to_torch).start(x, Variable)


def from_torch(x: Any) -> Any:
    """A chainrule module (or tensor) equal to a PyTorch one; nothing is shared.

    Modules of your own classes are carried over too, if what they use exists in chainrule.

    Raises:
        TypeError: naming the first module that cannot be made on the other side, its place, and why.
    """
    torch = _torch()
    import chainrule

    return _Conversion("from_torch", torch, chainrule, torch.nn.Module, _tensor_from_torch).start(x, torch.Tensor)


def _tensor_to_torch(x: Any) -> Any:
    torch = _torch()
    array = np.array(x._array)
    if array.dtype is BFLOAT16:
        copied = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    else:
        copied = torch.from_numpy(array)
    if isinstance(x, nn.Parameter):
        return torch.nn.Parameter(copied, x._requires)
    return copied.requires_grad_(x._requires)


def _tensor_from_torch(x: Any) -> Any:
    torch = _torch()
    plain = x.detach().cpu().resolve_conj().resolve_neg()
    if plain.dtype is torch.bfloat16:
        array = np.array(plain.contiguous().view(torch.int16).numpy()).view(BFLOAT16)
    else:
        array = np.array(plain.numpy())
    copied = wrap(array)
    if isinstance(x, torch.nn.Parameter):
        return nn.Parameter(copied, x.requires_grad)
    copied._requires = x.requires_grad
    return copied


class _Conversion:
    """One call of ``to_torch`` or ``from_torch``: what was converted already is remembered by identity."""

    def __init__(self, name: str, source: Any, target: Any, base: type, tensor: Any) -> None:
        self.name, self.target, self.base, self._tensor = name, target, base, tensor
        self.known: dict[int, Any] = {}
        self.alive: list[Any] = []  # what the ids in `known` belong to
        self.path = ""
        self.rewriter = Rewriter(source, target, self._special, name)

    def start(self, x: Any, tensor: type) -> Any:
        if isinstance(x, tensor):
            return self._tensor(x)
        if not isinstance(x, self.base):
            raise TypeError(f"{self.name} expects a module or a tensor, not {type(x).__name__}")
        return self.module(x, "")

    def _special(self, x: Any) -> Any:
        """Tensors and modules inside of other values; None for everything else."""
        if isinstance(x, self.base):
            return self.module(x, f"{self.path}.<attribute>".lstrip("."))
        if isinstance(x, Variable) or (type(x).__module__.split(".")[0] == "torch" and hasattr(x, "requires_grad")):
            return self.tensor(x)
        return None

    def tensor(self, x: Any) -> Any:
        if x is None:
            return None
        if type(x).__name__.startswith("Uninitialized"):
            raise TypeError(
                f"{self.name}: {self.path or 'the module'} is lazy and has no parameters yet\n"
                "  Call it once on an input, which gives them their shapes."
            )
        if id(x) not in self.known:
            self.known[id(x)] = self._tensor(x)
            self.alive.append(x)
        return self.known[id(x)]

    def module(self, module: Any, path: str) -> Any:
        """The counterpart of one module, children included."""
        if module is None:
            return None
        if id(module) in self.known:
            return self.known[id(module)]
        outer, self.path = self.path, path
        try:
            made = self._make(module, path)
            self.known[id(module)] = made
            self.alive.append(module)
            self._fill(module, made, path)
        finally:
            self.path = outer
        return made

    def _refuse(self, module: Any, path: str, why: str) -> TypeError:
        return TypeError(f"{self.name}: {path or 'the module'} is a {type(module).__name__}, {why}")

    def _make(self, module: Any, path: str) -> Any:
        if "parametrizations" in module._modules:
            raise self._refuse(
                module, path, "which is parametrized\n  Call nn.utils.parametrize.remove_parametrizations on it first."
            )
        if any(getattr(module, h, None) for h in _HOOKS):
            raise self._refuse(module, path, "which has hooks, and those are code of the other library\n  Remove them.")
        cls = type(module)
        standard = next(c for c in cls.__mro__ if _standard(c))
        kind = _ALIASES.get(standard.__name__, standard.__name__)
        target = getattr(self.target.nn, kind, None)
        if target is None:
            other = self.target.__name__
            raise self._refuse(module, path, f"which is no standard layer of both libraries: {other} has no nn.{kind}")
        if kind == "Module":
            if standard is cls:
                return target()
            made = object.__new__(self.rewriter.cls(cls))
            target.__init__(made)
            self._attributes(module, made)
            return made
        made = target() if kind in _CONTAINERS else target(**self._arguments(module, target, kind))
        if standard is not cls:
            made.__class__ = self.rewriter.cls(cls)
            self._attributes(module, made)
        return made

    def _attributes(self, module: Any, made: Any) -> None:
        for key, value in module.__dict__.items():
            if key not in made.__dict__ and not key.startswith("_parameters") and key != "_compiled_call_impl":
                made.__dict__[key] = self.rewriter.value(value)

    def _fill(self, module: Any, made: Any, path: str) -> None:
        """Children, parameters, buffers and flags of ``module`` into ``made``."""
        inner = f"{path}." if path else ""
        for name, child in module._modules.items():
            made.__dict__.pop(name, None)  # an optional child that was None is a plain attribute
            present = made._modules.get(name)
            if child is not None and type(child).__name__ == "Linear" and type(present).__name__ in _ALIASES:
                self._fill(child, present, inner + name)
                self.known[id(child)] = present
                self.alive.append(child)
            else:
                made._modules[name] = self.module(child, inner + name)
        for name, p in module._parameters.items():
            if name in made._parameters or p is None:
                # through setattr: PyTorch's recurrent layers keep a list of their weights up to date by it
                made.register_parameter(name, None) if p is None else setattr(made, name, self.tensor(p))
            elif type(made).__name__ == "ParameterList":
                made.append(self.tensor(p))
            else:
                made.register_parameter(name, self.tensor(p))
        if type(module).__name__ == "ParameterDict":
            for name in module.keys():  # noqa: SIM118 - a ParameterDict
                made[name] = self.tensor(module[name])
        for name, b in module._buffers.items():
            kept = name not in module._non_persistent_buffers_set
            if name not in made._buffers:
                made.__dict__.pop(name, None)
                made.register_buffer(name, self.tensor(b), persistent=kept)
            else:
                made._buffers[name] = self.tensor(b)
        made.training = module.training

    def _arguments(self, module: Any, target: Any, kind: str) -> dict[str, Any]:
        """The constructor's arguments, read off a layer."""
        if kind in ("RNN", "LSTM", "GRU"):
            names = list(_RECURRENT) + (["nonlinearity"] if kind == "RNN" else [])
            found = {n: getattr(module, n) for n in names if hasattr(module, n)}
            if kind != "LSTM":
                found.pop("proj_size", None)
            return found
        if kind in ("TransformerEncoderLayer", "TransformerDecoderLayer"):
            return self._transformer_layer(module)
        if kind in ("TransformerEncoder", "TransformerDecoder"):
            layer = self.module(module.layers[0], f"{self.path}.layers.0".lstrip("."))
            found = {"encoder_layer" if "Encoder" in kind else "decoder_layer": layer}
            if hasattr(module, "enable_nested_tensor") and "Encoder" in kind:
                found["enable_nested_tensor"] = bool(getattr(module, "use_nested_tensor", False))
            return found | {"num_layers": module.num_layers, "norm": None}
        if kind == "Transformer":
            # its constructor draws new values for whatever it is given: the real parts come in with the children
            return {
                "d_model": module.d_model, "nhead": module.nhead, "batch_first": module.batch_first,
                "custom_encoder": self.target.nn.Identity(), "custom_decoder": self.target.nn.Identity(),
            }  # fmt: skip
        if kind == "MultiheadAttention":
            names = ("embed_dim", "num_heads", "dropout", "add_zero_attn", "batch_first")
            found = {n: getattr(module, n) for n in names}
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
            elif hasattr(module, name):
                value = getattr(module, name)
                found[name] = self.rewriter.value(value)
            elif parameter.default is parameter.empty:
                raise self._refuse(module, self.path, f"of which the argument {name!r} cannot be read")
        return found

    def _transformer_layer(self, module: Any) -> dict[str, Any]:
        attention, activation = module.self_attn, module.activation
        plain = getattr(activation, "__name__", "")
        return {
            "d_model": attention.embed_dim,
            "nhead": attention.num_heads,
            "dim_feedforward": module.linear1.out_features,
            "dropout": module.dropout.p,
            "activation": plain if plain in ("relu", "gelu") else self.rewriter.value(activation),
            "layer_norm_eps": module.norm1.eps,
            "batch_first": attention.batch_first,
            "norm_first": module.norm_first,
            "bias": module.linear1.bias is not None,
        }


def _standard(cls: type) -> bool:
    return cls.__module__.startswith(("torch.nn.modules.", "chainrule.nn."))
