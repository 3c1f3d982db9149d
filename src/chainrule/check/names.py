"""Whose gradient is ``dW1``? The names people give to gradients, matched to the names of the values."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["value_name", "match_names"]

_FORMS = (
    re.compile(r"^d(?:L|l|loss|Loss|J|cost|E|C)_?d_?(?P<v>\w+)$"),
    re.compile(r"^(?:grads?|gradient|delta|bar|g)_(?P<v>\w+)$"),
    re.compile(r"^(?P<v>\w+)[_.](?:grads?|gradient|bar|delta)$"),
    re.compile(r"^d_(?P<v>\w+)$"),
    re.compile(r"^[d∂](?P<v>\w+)$"),
    re.compile(r"^∇_?(?P<v>\w+)$"),
)


def value_name(gradient: str, values: Iterable[str]) -> str | None:
    """The one of ``values`` that ``gradient`` is the gradient of; None when no form fits.

    >>> [value_name(g, ["W1", "z2"]) for g in ("dW1", "grad_z2", "z2_grad", "dL_dz2", "W1", "dW3")]
    ['W1', 'z2', 'z2', 'z2', 'W1', None]
    """
    known = {v: v for v in values}
    lower: dict[str, str] = {}
    for v in known:
        lower.setdefault(v.lower(), v)
    found = [gradient] if gradient in known else []
    for form in _FORMS:
        match = form.match(gradient)
        if match:
            found.append(match["v"])
    for candidate in found:
        if candidate in known:
            return candidate
    for candidate in found:
        if candidate.lower() in lower:
            return lower[candidate.lower()]
    return None


def match_names(gradients: Iterable[str], values: Iterable[str]) -> dict[str, str]:
    """From value name to the gradient name that belongs to it.

    >>> match_names(["db1", "dW1", "loss"], ["W1", "b1"])
    {'b1': 'db1', 'W1': 'dW1'}
    """
    values = list(values)
    out: dict[str, str] = {}
    for g in gradients:
        v = value_name(g, values)
        if v is not None and (v not in out or g == v):
            out[v] = g
    return out
