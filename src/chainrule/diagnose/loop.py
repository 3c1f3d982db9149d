"""Findings about a training loop: stale gradients, clipping that always binds, evaluation with dropout,
in-place edits."""

from __future__ import annotations

import re

import numpy as np

from .finding import Finding

__all__ = ["clipping", "error_finding", "stale"]


def clipping(norms: list[float], limits: list[float], place: str = "") -> list[Finding]:
    """Clipping that binds at (nearly) every step, and by far."""
    if len(norms) < 5:
        return []
    ratio = np.array(norms) / np.maximum(np.array(limits), 1e-300)
    if (ratio > 1).mean() < 0.9 or float(np.median(ratio)) < 5:
        return []
    typical = float(np.median(norms))
    return [
        Finding(
            "clipping",
            "gradient clipping always binds",
            f"{(ratio > 1).mean():.0%} of {len(norms)} steps; the norm is {typical:.3g}, {np.median(ratio):.0f} "
            f"times the limit {limits[-1]:.3g}",
            "clipping is for the rare outlier; when it binds at every step it is a learning rate that changes "
            "from step to step.",
            f"clip_grad_norm_(model.parameters(), {3 * typical:.1g})   # 3 × the typical norm",
            place=place,
            confidence=0.9,
            stage="update ratios",
            numbers={"typical": typical, "limit": float(limits[-1])},
        )
    ]


def stale(count: int, steps: int, growth: float, place: str = "") -> Finding:
    """Gradients that are never cleared."""
    return Finding(
        "stale-gradients",
        "gradients are never cleared",
        f"{count} of {steps} backward passes added to the gradient of a step already taken"
        + (f"; ‖grad‖ grew {growth:.1f}-fold" if growth > 1.5 else ""),
        "backward adds to .grad: without zero_grad every step also repeats all earlier gradients, like a "
        "momentum of 1.",
        "optimizer.zero_grad()   # before every loss.backward()",
        place=place,
        confidence=0.97,
        stage="update ratios",
        numbers={"count": count, "steps": steps},
    )


def error_finding(error: Exception, text: str) -> Finding | None:
    """An exception of PyTorch or chainrule that is one of the known faults."""
    place = re.search(r"At ([\w./-]+:\d+)", text)
    at = place.group(1) if place else ""
    if "Expected more than 1 value per channel" in text:
        from .wiring_checks import _one_row

        return _one_row("")
    if (
        "modified by an inplace operation" in text
        or "modified in place" in text
        or ("in-place operation" in text.lower() and "leaf" in text.lower())
    ):
        return Finding(
            "graph-cut",
            "an in-place edit destroys a value that backward needs",
            text.splitlines()[0][:200],
            "the derivative needs the value as it was when it was used; the edit has overwritten it.",
            "x = x + 1   # a new tensor, instead of x += 1 or x[...] =",
            place=at,
            confidence=0.97,
        )
    if "does not require grad" in text:
        return Finding(
            "graph-cut",
            "the loss has no gradient",
            text.splitlines()[0][:200],
            "every path from the weights to the loss is cut (detach, no_grad, .item(), NumPy) or all weights are "
            "frozen.",
            "compute the loss from the network's own output, outside of no_grad",
            place=at,
            confidence=0.95,
        )
    if "all elements of input should be between 0 and 1" in text:
        return Finding(
            "missing-softmax",
            "binary_cross_entropy gets what are no probabilities",
            text.splitlines()[0][:200],
            "it needs numbers in [0, 1]; raw scores have any size.",
            "F.binary_cross_entropy_with_logits(logits, y)",
            place=at,
            confidence=0.97,
            stage="initial loss",
        )
    if "all elements of target should be between 0 and 1" in text:
        return Finding(
            "target-range",
            "targets outside of 0 … 1 for binary cross-entropy",
            text.splitlines()[0][:200],
            "the targets must be 0, 1 or a probability in between.",
            "y = (y > 0).float()",
            place=at,
            confidence=0.95,
            stage="data",
        )
    return None


def evaluation(layers: int, calls: int, place: str = "", kind: str = "Dropout") -> Finding:
    """A network evaluated in training mode."""
    return Finding(
        "dropout-at-evaluation",
        "evaluated in training mode",
        f"{calls} forward passes without gradients ran with training=True; the network has {layers} {kind} layers",
        "dropout then drops units at random and batch norm uses (and changes) batch statistics: the figures are "
        "those of another network.",
        "model.eval()   # before evaluating; model.train() afterwards",
        place=place,
        confidence=0.9,
        stage="update ratios",
    )
