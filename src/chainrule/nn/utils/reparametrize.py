"""Weights computed from other parameters before each forward: weight normalisation and spectral normalisation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ...core.op import registry
from ...core.rng import numpy_generator
from ...core.state import state
from ...core.variable import wrap
from ..parameter import Parameter

__all__ = ["weight_norm", "remove_weight_norm", "spectral_norm", "remove_spectral_norm"]


def _norm_except(v: Any, dim: int | None) -> Any:
    """The norm of ``v`` over all axes but one (over all for None), with the axes kept."""
    n = v._array.ndim
    axes = tuple(i for i in range(n) if dim is None or i != dim % n)
    total = registry["sum"].call(v * v, dim=axes, keepdim=dim is not None)
    return registry["sqrt"].call(total)


class _WeightNorm:
    """w = g · v / ‖v‖ (Salimans and Kingma 2016), as a forward pre-hook."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, None if dim == -1 else dim

    def weight(self, module: Any) -> Any:
        g, v = getattr(module, self.name + "_g"), getattr(module, self.name + "_v")
        return v * (g / _norm_except(v, self.dim))

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.weight(module))


def _find(module: Any, kind: type, name: str) -> Any:
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, kind) and hook.name == name:
            return key
    return None


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Learn the length ``name_g`` and the direction ``name_v`` of a weight instead of the weight itself."""
    warnings.warn(
        "`torch.nn.utils.weight_norm` is deprecated in favor of `torch.nn.utils.parametrizations.weight_norm`.",
        FutureWarning,
        stacklevel=2,
    )
    if _find(module, _WeightNorm, name) is not None:
        raise RuntimeError(f"Cannot register two weight_norm hooks on the same parameter {name}")
    hook = _WeightNorm(name, dim)
    weight = getattr(module, name)
    del module._parameters[name]
    module.register_parameter(name + "_g", Parameter(_norm_except(weight.detach(), hook.dim)))
    module.register_parameter(name + "_v", Parameter(wrap(weight._array)))
    setattr(module, name, hook.weight(module))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: Any, name: str = "weight") -> Any:
    """Make the weight a parameter again, with its present value."""
    key = _find(module, _WeightNorm, name)
    if key is None:
        raise ValueError(f"weight_norm of '{name}' not found in {module}")
    weight = module._forward_pre_hooks.pop(key).weight(module)
    delattr(module, name)
    del module._parameters[name + "_g"], module._parameters[name + "_v"]
    setattr(module, name, Parameter(weight.detach()))
    return module


def as_matrix(weight: Any, dim: int) -> Any:
    """A weight with axis ``dim`` as rows and all others as columns."""
    n = weight._array.ndim
    if dim:
        weight = registry["permute"].call(weight, dims=(dim, *(i for i in range(n) if i != dim)))
    rows = weight._array.shape[0]
    return registry["reshape"].call(weight, shape=(rows, weight._array.size // rows))


def unit(x: Any, eps: float) -> Any:
    """x / ‖x‖, as an array."""
    return x / max(float(np.sqrt((x * x).sum())), eps)


def power_iteration(matrix: Any, u: Any, v: Any, steps: int, eps: float) -> None:
    """Turn u and v towards the first singular vectors, in place; all are arrays."""
    if state.recorder is not None:
        state.recorder.leak(None, "spectral_norm's power iteration")
        raise RuntimeError("spectral_norm's power iteration cannot be traced; call module.eval() first")
    for _ in range(steps):
        v[...] = unit(matrix.T @ u, eps)
        u[...] = unit(matrix @ v, eps)


def divide_by_norm(weight: Any, matrix: Any, u: Any, v: Any) -> Any:
    """w / (uᵀ W v): the gradient flows through W, not through u and v."""
    mul, total = registry["mul"].call, registry["sum"].call
    row = registry["reshape"].call(v, shape=(1, -1))
    column = total(mul(matrix, row), dim=(1,), keepdim=False)
    return weight / total(mul(u, column), dim=(0,), keepdim=False)


class _SpectralNorm:
    """w = w_orig / σ, σ the largest singular value, by one power iteration per training step (Miyato et al. 2018)."""

    def __init__(self, name: str, n_power_iterations: int, eps: float, dim: int) -> None:
        if n_power_iterations <= 0:
            raise ValueError(
                f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}"
            )
        self.name, self.n_power_iterations, self.eps, self.dim = name, n_power_iterations, eps, dim

    def weight(self, module: Any, iterate: bool) -> Any:
        weight = getattr(module, self.name + "_orig")
        u, v = getattr(module, self.name + "_u"), getattr(module, self.name + "_v")
        matrix = as_matrix(weight, self.dim)
        if iterate:
            power_iteration(matrix._array, u._array, v._array, self.n_power_iterations, self.eps)
            u, v = wrap(u._array.copy()), wrap(v._array.copy())
        return divide_by_norm(weight, matrix, u, v)

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.weight(module, module.training))


def spectral_norm(
    module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Any:
    """Divide a weight by its largest singular value before every forward."""
    if dim is None:
        dim = 1 if type(module).__name__.startswith("ConvTranspose") else 0
    if _find(module, _SpectralNorm, name) is not None:
        raise RuntimeError(f"Cannot register two spectral_norm hooks on the same parameter {name}")
    hook = _SpectralNorm(name, n_power_iterations, eps, dim)
    weight = module._parameters.pop(name)
    if weight is None:
        raise ValueError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
    rows, columns = as_matrix(weight.detach(), dim)._array.shape
    rng, dtype = numpy_generator(), weight._array.dtype
    module.register_parameter(name + "_orig", weight)
    setattr(module, name, wrap(weight._array))
    module.register_buffer(name + "_u", wrap(unit(rng.standard_normal(rows), eps).astype(dtype)))
    module.register_buffer(name + "_v", wrap(unit(rng.standard_normal(columns), eps).astype(dtype)))
    module.register_forward_pre_hook(hook)
    return module


def remove_spectral_norm(module: Any, name: str = "weight") -> Any:
    """Make the weight a parameter again, with its present (normalised) value."""
    key = _find(module, _SpectralNorm, name)
    if key is None:
        raise ValueError(f"spectral_norm of '{name}' not found in {module}")
    weight = module._forward_pre_hooks.pop(key).weight(module, False)
    delattr(module, name)
    for ending in ("_u", "_v", "_orig"):
        delattr(module, name + ending)
    setattr(module, name, Parameter(weight.detach()))
    return module
