"""The path-length spectrum of a residual network: how much of the gradient crossed k residual branches.

A path from the loss to a weight takes, at every block, either the skip or the branch. Scale each branch's backward
signal by z: the gradient becomes a polynomial G(z) = Σₖ Gₖ zᵏ, where Gₖ is what came over paths with k branches.
Evaluated at the n + 1 roots of unity, an inverse Fourier transform gives every Gₖ; G(1) = Σₖ Gₖ is ``.grad`` itself.

Backward is linear, so a complex z is two real passes: the real and the imaginary part of what flows are carried along
as two gradients, and a block's branch rotates them.
"""

from __future__ import annotations

import cmath
from typing import Any

import numpy as np

from ..autograd.engine import apply_rules
from ..core.node import Node
from ..core.variable import Variable
from ..errors import UsageError
from .subject import Subject
from .tape import reachable

__all__ = ["PathSpectrum", "residual_adds", "spectrum"]


class PathSpectrum:
    """``parts[k]``: the gradient of ``parameter`` that crossed k branches; ``shares[k]``: its norm over the sum
    of norms."""

    def __init__(self, parameter: str, parts: list[Any], blocks: int) -> None:
        self.parameter, self.parts, self.blocks = parameter, parts, blocks
        norms = np.array([float(np.linalg.norm(p)) for p in parts])
        self.norms = norms
        self.shares = norms / norms.sum() if norms.sum() > 0 else norms

    @property
    def total(self) -> Any:
        """Σₖ Gₖ, which is ``.grad``."""
        return np.sum(self.parts, axis=0)

    @property
    def mean_length(self) -> float:
        """The mean number of branches, weighted by norm."""
        return float((self.shares * np.arange(len(self.shares))).sum())

    def __str__(self) -> str:
        rows = [f"gradient of {self.parameter} by number of residual branches crossed (of {self.blocks}):"]
        rows += [
            f"{k:>3}  {'█' * round(40 * s / max(self.shares.max(), 1e-300)):<40} {s:.1%}"
            for k, s in enumerate(self.shares)
        ]
        return "\n".join(rows)


def residual_adds(root: Any) -> dict[Node, int]:
    """The additions that close residual blocks → which input is the branch.

    An ``add`` closes a block when one input (the skip) is an ancestor of the other (the branch) and a weight lies in
    between.
    """
    order = reachable(root)
    weights = {"linear", "conv", "matmul"}
    index = {n: i for i, n in enumerate(order)}
    masks: dict[Node, int] = {}
    for node in order:  # bit sets: big integers do the set algebra fast
        mask = 1 << index[node]
        for edge in node.edges:
            source = edge[0] if type(edge) is tuple else edge
            if isinstance(source, Node):
                mask |= masks[source]
        masks[node] = mask
    heavy = sum(1 << index[n] for n in order if n.op.name in weights)
    found: dict[Node, int] = {}
    for node in order:
        if node.op.name not in ("add", "sub") or len(node.edges) != 2:
            continue
        sources = [e[0] if type(e) is tuple else e for e in node.edges]
        for branch in (0, 1):
            b, s = sources[branch], sources[1 - branch]
            if (
                isinstance(b, Node)
                and isinstance(s, Node)
                and masks[b] >> index[s] & 1
                and masks[b] & ~masks[s] & heavy
            ):
                found[node] = branch
                break
    return found


def _gradient(root: Any, seed: Any, blocks: dict[Node, int], z: complex, leaf: Any) -> Any:
    """G(z) for one leaf: a pass with the pair (real part, imaginary part) on every edge."""
    pending: dict[Any, tuple[Any, Any]] = {root: (seed, np.zeros_like(seed))}
    total: Any = np.zeros(leaf._array.shape, complex)

    def send(edge: Any, pair: tuple[Any, Any]) -> None:
        nonlocal total
        if isinstance(edge, Variable):
            if edge is leaf:
                total = total + pair[0] + 1j * pair[1]
            return
        old = pending.get(edge)
        pending[edge] = pair if old is None else (old[0] + pair[0], old[1] + pair[1])

    for node in reversed(reachable(root)):
        if node.op.outputs != 1:
            parts = [pending.pop((node, i), None) for i in range(len(node.out))]
            if all(p is None for p in parts):
                continue
            pairs: list[Any] = []
            for c in (0, 1):
                g = tuple(np.zeros(*o) if p is None else p[c] for p, o in zip(parts, node.out, strict=True))
                pairs.append(apply_rules(node, g, "arrays"))
            real, imaginary = pairs
        else:
            pair = pending.pop(node, None)
            if pair is None:
                continue
            real, imaginary = apply_rules(node, pair[0], "arrays"), apply_rules(node, pair[1], "arrays")
        branch = blocks.get(node)
        for i, edge in enumerate(node.edges):
            if edge is None or real[i] is None:
                continue
            a, b = np.asarray(real[i]), np.asarray(imaginary[i])
            if i == branch:
                a, b = z.real * a - z.imag * b, z.real * b + z.imag * a
            send(edge, (a, b))
    return total


def spectrum(model: Any, loss_fn: Any, batch: Any, parameter: str | None = None) -> PathSpectrum:
    """The path-length spectrum of one parameter's gradient (by default, the first weight matrix below all blocks).

    Raises:
        UsageError: for a model without residual connections, or one of PyTorch (convert it with ``from_torch``).

    >>> import chainrule as torch
    >>> _ = torch.manual_seed(0)
    >>> class Block(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.f = torch.nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return x + torch.tanh(self.f(x))
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), *[Block() for _ in range(5)], torch.nn.Linear(4, 2))
    >>> s = spectrum(net, torch.nn.functional.cross_entropy, (torch.randn(8, 3), torch.arange(8) % 2))
    >>> s.blocks, len(s.parts)
    (5, 6)
    """
    subject = Subject(model, loss_fn, batch)
    if subject.torch:
        raise UsageError(
            "the path spectrum needs chainrule's own graph: convert the model with chainrule.bridge.from_torch"
        )
    with subject.untouched():
        twin, _ = subject.copy()
        _, loss = subject.forward(twin)
        blocks = residual_adds(loss._node)
        if not blocks:
            raise UsageError(f"{type(model).__name__} has no residual connections (x + f(x) with weights in f)")
        named = dict(twin.named_parameters())
        if parameter is None:
            parameter = next(n for n, p in named.items() if len(p.shape) >= 2)
        if parameter not in named:
            raise UsageError(f"{type(model).__name__} has no parameter {parameter!r}")
        leaf = named[parameter]
        n = len(blocks)
        seed = np.ones_like(loss._array)
        roots = [cmath.exp(2j * cmath.pi * k / (n + 1)) for k in range(n + 1)]
        # G(z̄) is the conjugate of G(z): half of the roots are enough.
        half = [_gradient(loss._node, seed, blocks, z, leaf) for z in roots[: (n + 1) // 2 + 1]]
        values = [half[k] if k < len(half) else np.conj(half[n + 1 - k]) for k in range(n + 1)]
        parts = [
            np.real(sum(v * cmath.exp(-2j * cmath.pi * j * k / (n + 1)) for k, v in enumerate(values))) / (n + 1)
            for j in range(n + 1)
        ]
    return PathSpectrum(str(parameter), parts, n)
