"""Ready-made parametrisations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import linalg
from ...autograd.modes import no_grad
from ...core.dtypes import limits
from ...core.rng import numpy_generator
from ...core.variable import Variable, wrap
from ...linalg.symmetric import geqrf
from ...ops import join
from .. import functional as F
from ..conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from ..module import Module
from .parametrize import register_parametrization
from .reparametrize import _norm_except

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


class _WeightNorm(Module):
    """w = g · v / ‖v‖, from original0 = g and original1 = v."""

    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def _length(self, v: Any) -> Any:
        return _norm_except(v, None if self.dim == -1 else self.dim)

    def forward(self, g: Any, v: Any) -> Any:
        return v * (g / self._length(v))

    def right_inverse(self, weight: Any) -> tuple[Any, Any]:
        return self._length(weight), weight


def weight_norm(module: Any, name: str = "weight", dim: int | None = 0) -> Any:
    """Learn length (``original0``) and direction (``original1``) of a weight instead of the weight itself.

    A state_dict of the older ``nn.utils.weight_norm`` (``weight_g``, ``weight_v``) is taken as well.
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def older_names(state_dict: Any, prefix: str, *rest: Any) -> None:
        keys = [f"{prefix}{name}_g", f"{prefix}{name}_v"]
        if all(key in state_dict for key in keys):
            for i, key in enumerate(keys):
                state_dict[f"{prefix}parametrizations.{name}.original{i}"] = state_dict.pop(key)

    module._register_load_state_dict_pre_hook(older_names)
    return module


class _SpectralNorm(Module):
    """w / σ, with σ = uᵀ W v from a power iteration whose vectors u and v are buffers."""

    def __init__(self, weight: Any, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        n = weight.dim()
        if not -n <= dim < n:
            raise IndexError(f"Dimension out of range (expected to be in range of [-{n}, {n - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError(
                f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}"
            )
        self.dim = dim % n
        self.eps = eps
        if n > 1:
            self.n_power_iterations = n_power_iterations
            matrix = self._matrix(weight.detach())
            rng = numpy_generator(None)
            for name, length in zip(("_u", "_v"), matrix.shape, strict=True):
                start = wrap(rng.standard_normal(length).astype(matrix._array.dtype))
                self.register_buffer(name, F.normalize(start, dim=0, eps=eps))
            self._iterate(matrix, 15)

    def _matrix(self, weight: Any) -> Any:
        return weight.movedim(self.dim, 0).flatten(1)

    def _iterate(self, matrix: Any, times: int) -> None:
        with no_grad():
            for _ in range(times):
                for target, product in ((self._u, lambda: matrix.mv(self._v)), (self._v, lambda: matrix.T.mv(self._u))):
                    target.copy_(F.normalize(product(), dim=0, eps=self.eps))

    def forward(self, weight: Any) -> Any:
        if weight.dim() == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix.detach(), self.n_power_iterations)
        # Copies, since the next forward changes the buffers before the backward of this one may have run.
        u, v = self._u.clone(), self._v.clone()
        return weight / u.dot(matrix.mv(v))

    def right_inverse(self, value: Any) -> Any:
        return value


def spectral_norm(
    module: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Any:
    """Divide a weight by its largest singular value (Miyato et al. 2018), from power iterations while training."""
    weight = getattr(module, name, None)
    if not isinstance(weight, Variable):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)) else 0
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))


_MAPS = ("matrix_exp", "cayley", "householder")


def _orthonormal(matrix: Any) -> Any:
    """The Q of a QR decomposition whose R has a positive diagonal."""
    packed, tau = geqrf(matrix)
    signs = packed.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)
    return linalg.householder_product(packed, tau) * signs


class _Orthogonal(Module):
    """Matrices with orthonormal columns (or rows, if there are more columns), from a square or tall X.

    "matrix_exp" and "cayley" map the skew-symmetric A = X − Xᵀ, X lower triangular, to exp A and (I + A/2)(I − A/2)⁻¹;
    "householder" multiplies the reflections that the columns of X describe. With ``use_trivialization`` the result is
    multiplied by ``base``, the matrix that was assigned last (Lezcano-Casado 2019).
    """

    base: Any

    def __init__(self, weight: Any, orthogonal_map: str, use_trivialization: bool = True) -> None:
        super().__init__()
        self.shape = weight.shape
        self.orthogonal_map = orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Any) -> Any:
        n, k = X.shape[-2:]
        wide = n < k
        if wide:
            X, n, k = X.mT, k, n
        if self.orthogonal_map == "householder":
            A = X.tril(-1)
            tau = 2.0 / (1.0 + (A * A).sum(dim=-2))
            # The diagonal holds the signs of the columns, which are not trained.
            Q = linalg.householder_product(A, tau) * X.detach().diagonal(dim1=-2, dim2=-1).unsqueeze(-2).trunc()
        else:
            X = X.tril()
            if n != k:
                X = F.pad(X, (0, n - k))
            A = X - X.mT
            if self.orthogonal_map == "matrix_exp":
                Q = linalg.matrix_exp(A)
            else:
                eye = wrap(np.eye(n, dtype=A._array.dtype))
                Q = linalg.solve(eye - A * 0.5, eye + A * 0.5)
            if n != k:
                Q = Q[..., :k]
        if "base" in self._buffers:
            Q = self.base @ Q
        return Q.mT if wide else Q

    def right_inverse(self, Q: Any) -> Any:
        if Q.shape != self.shape:
            raise ValueError(
                f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {Q.shape}."
            )
        with no_grad():
            given = Q
            n, k = Q.shape[-2:]
            wide = n < k
            if wide:
                Q, n, k = Q.mT, k, n
            if "base" not in self._buffers:
                if self.orthogonal_map != "householder":
                    raise NotImplementedError(
                        "It is not possible to assign to the matrix exponential or the Cayley parametrizations when "
                        "use_trivialization=False."
                    )
                packed, tau = geqrf(Q)
                a, i = np.array(packed._array), np.arange(k)
                # LAPACK says with tau = 0 that it reflects nothing, so that the sign of that column is the other one.
                a[..., i, i] = np.sign(a[..., i, i]) * np.where(tau._array == 0, -1, 1)
                return wrap(a).mT if wide else wrap(a)
            if n == k and self._is_orthogonal(Q):
                Q = Q.clone()
            else:
                if n != k:  # completed to a square by random columns
                    rest = numpy_generator(None).standard_normal((*Q.shape[:-2], n, n - k)).astype(Q._array.dtype)
                    Q = join.cat(Q, wrap(rest), dim=Q.dim() - 1)
                Q = _orthonormal(Q)
            self.base = Q
            # Of the diagonal −1: householder then starts at the identity.
            start = np.zeros(given._array.shape, given._array.dtype)
            i = np.arange(k)
            start[..., i, i] = -1
            return wrap(start)

    def _is_orthogonal(self, Q: Any) -> bool:
        a = Q._array
        eps = 10.0 * a.shape[-2] * float(limits(a.dtype).eps)
        return bool(np.allclose(a.swapaxes(-1, -2) @ a, np.eye(a.shape[-1], dtype=a.dtype), atol=eps))


def orthogonal(
    module: Any, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
) -> Any:
    """Keep a matrix (or a batch of them) orthogonal while it is trained.

    >>> import chainrule as torch
    >>> layer = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(4, 4))
    >>> bool(torch.allclose(layer.weight.T @ layer.weight, torch.eye(4), atol=1e-5))
    True
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Variable):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    shape = weight._array.shape
    if len(shape) < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {len(shape)} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if shape[-2] == shape[-1] else "householder"
    if orthogonal_map not in _MAPS:
        raise ValueError(
            f'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: {orthogonal_map}'
        )
    made = _Orthogonal(weight, orthogonal_map, use_trivialization)
    return register_parametrization(module, name, made, unsafe=True)
