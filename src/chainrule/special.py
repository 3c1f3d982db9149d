"""``torch.special``: special functions under SciPy's names."""

from __future__ import annotations

from typing import Any

from .functions.neural import log_softmax, softmax
from .functions.pointwise import binary as _binary
from .functions.pointwise import (
    digamma,
    erf,
    erfc,
    erfinv,
    exp2,
    expm1,
    i0,
    log1p,
    logit,
    polygamma,
    round,
    sigmoid,
    sinc,
    unary,
    xlogy,
)  # fmt: skip
from .functions.pointwise import igamma as gammainc
from .functions.pointwise import igammac as gammaincc
from .functions.pointwise import lgamma as gammaln
from .functions.pointwise import mvlgamma as multigammaln
from .functions.reduction import logsumexp
from .ops import bessel as _bessel
from .ops import special as _ops

__all__ = [
    *_bessel.UNARY, *_bessel.POLYNOMIALS,
    "digamma", "entr", "erf", "erfc", "erfcx", "erfinv", "exp2", "expit", "expm1", "gammainc", "gammaincc", "gammaln",
    "i0", "i0e", "i1", "i1e", "log1p", "log_ndtr", "log_softmax", "logit", "logsumexp", "multigammaln", "ndtr", "ndtri",
    "polygamma", "psi", "round", "sinc", "softmax", "xlog1py", "xlogy", "zeta",
]  # fmt: skip

psi, expit = digamma, sigmoid
entr, erfcx, ndtr, ndtri, log_ndtr = (
    unary(n, getattr(_ops, n)) for n in ("entr", "erfcx", "ndtr", "ndtri", "log_ndtr")
)
i0e, i1, i1e = (unary(n, getattr(_ops, n)) for n in ("i0e", "i1", "i1e"))
xlog1py: Any = _binary("xlog1py", _ops.xlog1py, "either")
zeta: Any = _binary("zeta", _ops.zeta, "either")


globals().update({name: unary(name, op) for name, op in _bessel.UNARY.items()})
globals().update({name: _binary(name, op, "either") for name, op in _bessel.POLYNOMIALS.items()})


def __getattr__(name: str) -> Any:
    from .core import left_out

    raise left_out.missing("torch.special", name, __all__)
