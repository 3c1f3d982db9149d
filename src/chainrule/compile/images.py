"""Nodes of images in lanes: rearrangements, convolutions and pooling, as two spatial axes of taps."""

from __future__ import annotations

from typing import Any

from ..graph.program import Instr
from .ir import kind_of
from .nodes import Access, Node, Storage, squeeze
from .windows import gathering, scattering

__all__ = ["images"]

POOLS = ("max_pool", "sum_pool", "pick_tap", "put_tap", "spread_pool")


def images(instr: Instr, storage: Storage) -> Node | None:
    """The node of an op of ``lanes``; None for any other op."""
    return _relaid(instr, storage) or _convolution(instr, storage) or _pooling(instr, storage)


def _relaid(instr: Instr, storage: Storage) -> Node | None:
    """``to_lanes`` and ``from_lanes``: a copy in the order of the result."""
    name, x, out = instr.op.name, instr.args[0], instr.outs[0]
    if name not in ("to_lanes", "from_lanes") or kind_of(out.dtype) is None:
        return None
    root, offset, s = storage.refs[x]
    if name == "to_lanes":
        shape, strides = out.shape, (s[0] * instr.params["lanes"], *s[1:], s[0])
    else:
        shape, strides = (x.shape[0], x.shape[-1], *x.shape[1:-1]), (s[0], s[-1], *s[1:-1])
    access = Access(root, offset, squeeze(shape, strides))
    return Node("ew", "copy", instr, out, tuple(n for n in shape if n != 1), [access], compute=kind_of(out.dtype) or "")


def _two_axes(strides: tuple[int, ...], front: int, back: int) -> tuple[int, ...]:
    """Strides with a second spatial axis where there is one only."""
    spatial = len(strides) - front - back
    return (*strides[:front], *(0,) * (2 - spatial), *strides[front:])


def _convolution(instr: Instr, storage: Storage) -> Node | None:
    """A convolution of images in lanes, its transpose, or its weight gradient, as two spatial axes of taps."""
    name, out = instr.op.name, instr.outs[0]
    if name not in ("conv_lanes", "conv_input_lanes", "conv_weight_lanes"):
        return None
    a, b = instr.args
    p = instr.params
    kernel = p["kernel"] if name == "conv_weight_lanes" else b.shape[2:]
    size = {"conv_lanes": a, "conv_input_lanes": out, "conv_weight_lanes": a}[name].shape[2:-1]
    count = {"conv_lanes": out, "conv_input_lanes": a, "conv_weight_lanes": b}[name].shape[2:-1]
    lay = scattering if name == "conv_input_lanes" else gathering
    every = zip(size, count, kernel, p["stride"], p["padding"], p["dilation"], strict=True)
    axes = [lay(*settings) for settings in every]
    if len(axes) == 1:
        axes.insert(0, gathering(1, 1, 1, 1, 0, 1))
    args: list[Any] = []
    for v in (a, b):
        root, offset, strides = storage.refs[v]
        weights = v is b and name != "conv_weight_lanes"
        args.append(Access(root, offset, _two_axes(strides, 2, 0 if weights else 1)))
        if not weights and strides[-1] not in (0, 1):
            return None
    kind = "conv_weight" if name == "conv_weight_lanes" else "conv"
    shape = out.shape if kind == "conv_weight" else tuple(n for n in out.shape if n != 1)
    node = Node(kind, name.removesuffix("_lanes"), instr, out, shape, args, compute=kind_of(out.dtype) or "")
    node.params = {
        "rows": axes[0], "columns": axes[1], "groups": p["groups"], "lanes": a.shape[-1], "kernel": kernel,
        "shapes": (a.shape, b.shape),
    }  # fmt: skip
    return node


def _pooling(instr: Instr, storage: Storage) -> Node | None:
    """Pooling of images in lanes, or a transpose, as two spatial axes of taps."""
    name, out = instr.op.name.removesuffix("_lanes"), instr.outs[0]
    if name not in POOLS or name == instr.op.name:
        return None
    p = instr.params
    back = name in ("put_tap", "spread_pool")
    a = instr.args[0]
    size, count = (v.shape[2:-1] for v in ((out, a) if back else (a, out)))
    padding = [before for before, _ in p["widths"]]
    dilation = p.get("dilation", (1,) * len(size))
    every = zip(size, count, p["kernel"], p["stride"], padding, dilation, strict=True)
    axes = [(scattering if back else gathering)(*settings) for settings in every]
    if len(axes) == 1:
        axes.insert(0, gathering(1, 1, 1, 1, 0, 1))
    args: list[Any] = []
    for v in instr.args:
        root, offset, strides = storage.refs[v]
        args.append(Access(root, offset, _two_axes(strides, 2, 1)))
        if strides[-1] not in (0, 1):
            return None
    shape = tuple(n for n in out.shape if n != 1)
    kind = "max_pool" if name == "max_pool" else "pool"
    node = Node(kind, name, instr, out, shape, args, compute=kind_of(out.dtype) or "")
    node.params = {
        "rows": axes[0], "columns": axes[1], "lanes": a.shape[-1], "kernel": p["kernel"],
        "shapes": tuple(v.shape for v in instr.args),
    }  # fmt: skip
    return node
