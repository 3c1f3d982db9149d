"""A layered layout: every box in the layer after the last of its inputs, crossings reduced, long edges kept clear.

The steps are the classic ones (longest path, dummies for long edges, barycentres, coordinates by averaging), each
linear in the drawing's size; a view holds some fifty boxes, so nothing cleverer pays.
"""

from __future__ import annotations

import itertools
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

__all__ = ["Placed", "place"]


@dataclass(slots=True)
class Placed:
    """Centres of the boxes by index, the way points of each edge, and the size of the drawing."""

    x: list[float]
    y: list[float]
    routes: list[list[tuple[float, float]]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


def place(
    sizes: list[tuple[float, float]],
    edges: list[tuple[int, int]],
    *,
    late: AbstractSet[int] = frozenset(),
    gap: float = 26,
    rise: float = 44,
) -> Placed:
    """Lay out boxes of the given sizes, top down. Boxes in ``late`` (leaves) stand just above their first reader."""
    n = len(sizes)
    into: list[list[int]] = [[] for _ in range(n)]
    out: list[list[int]] = [[] for _ in range(n)]
    for a, b in edges:
        into[b].append(a)
        out[a].append(b)
    layer = [0] * n
    missing = [len(v) for v in into]
    ready = [k for k in range(n) if not missing[k]]
    while ready:
        k = ready.pop()
        for m in out[k]:
            layer[m] = max(layer[m], layer[k] + 1)
            missing[m] -= 1
            if not missing[m]:
                ready.append(m)
    for k in late:
        if out[k]:
            layer[k] = max(0, min(layer[m] for m in out[k]) - 1)
    # Dummies: one point per layer that an edge passes.
    layers: list[list[int]] = [[] for _ in range(max(layer, default=0) + 1)]
    for k in range(n):
        layers[layer[k]].append(k)
    all_sizes = list(sizes)
    level = list(layer)
    chains: list[list[int]] = []
    up: list[list[int]] = [[] for _ in range(n)]
    down: list[list[int]] = [[] for _ in range(n)]
    for a, b in edges:
        chain = [a]
        for at in range(layer[a] + 1, layer[b]):
            k = len(all_sizes)
            all_sizes.append((14.0, 1.0))
            level.append(at)
            layers[at].append(k)
            up.append([])
            down.append([])
            chain.append(k)
        chain.append(b)
        for p, q in itertools.pairwise(chain):
            down[p].append(q)
            up[q].append(p)
        chains.append(chain)
    position = [0.0] * len(all_sizes)
    for row in layers:
        for i, k in enumerate(row):
            position[k] = float(i)
    for sweep in range(8):
        rows = layers if sweep % 2 == 0 else layers[::-1]
        near = up if sweep % 2 == 0 else down
        for row in rows:
            row.sort(key=lambda k: (sum(position[m] for m in near[k]) / len(near[k])) if near[k] else position[k])
            for i, k in enumerate(row):
                position[k] = float(i)
    x = _coordinates(layers, all_sizes, up, down, gap)
    y = [0.0] * len(all_sizes)
    at = 20.0
    for row in layers:
        height = max((all_sizes[k][1] for k in row), default=0.0)
        for k in row:
            y[k] = at + height / 2
        at += height + rise
    left = min((x[k] - all_sizes[k][0] / 2 for k in range(len(x))), default=0.0) - 20
    x = [v - left for v in x]
    placed = Placed(x[:n], y[:n])
    placed.width = max((x[k] + all_sizes[k][0] / 2 for k in range(len(x))), default=0.0) + 20
    placed.height = at - rise + 20
    for chain in chains:
        points = [(x[k], y[k]) for k in chain]
        points[0] = (points[0][0], points[0][1] + sizes[chain[0]][1] / 2)
        points[-1] = (points[-1][0], points[-1][1] - sizes[chain[-1]][1] / 2)
        placed.routes.append(points)
    return placed


def _coordinates(
    layers: list[list[int]], sizes: list[tuple[float, float]], up: list[list[int]], down: list[list[int]], gap: float
) -> list[float]:
    """Each box towards the middle of its neighbours, as far as the others in its layer leave room."""
    x = [0.0] * len(sizes)
    weight = [0.05 if not up[k] and len(down[k]) == 1 else 1.0 for k in range(len(sizes))]  # a lone leaf follows
    for row in layers:
        at = 0.0
        for k in row:
            x[k] = at + sizes[k][0] / 2
            at += sizes[k][0] + gap
        for k in row:
            x[k] -= at / 2
    for sweep in range(12):
        rows = layers if sweep % 2 == 0 else layers[::-1]
        for row in rows:
            wish: list[float] = []
            for k in row:
                near = up[k] if sweep % 2 == 0 and up[k] else down[k] if sweep % 2 and down[k] else up[k] + down[k]
                total = sum(weight[m] for m in near)
                wish.append(sum(x[m] * weight[m] for m in near) / total if total else x[k])
            _settle(row, wish, x, sizes, weight, gap)
    return x


def _settle(
    row: list[int], wish: list[float], x: list[float], sizes: list[tuple[float, float]], weight: list[float], gap: float
) -> None:
    """Place a layer: important boxes where they wish to be, the others as near as these leave room."""
    reach = [0.0]  # the centre of box i if all stood side by side
    for i in range(1, len(row)):
        reach.append(reach[-1] + (sizes[row[i - 1]][0] + sizes[row[i]][0]) / 2 + gap)
    placed: dict[int, float] = {}
    for i in sorted(range(len(row)), key=lambda i: (-weight[row[i]], -sizes[row[i]][1])):
        low = max((at + reach[i] - reach[j] for j, at in placed.items() if j < i), default=-1e18)
        high = min((at - (reach[j] - reach[i]) for j, at in placed.items() if j > i), default=1e18)
        placed[i] = min(max(wish[i], low), high)
    for i, at in placed.items():
        x[row[i]] = at
