"""A layered layout: every box in the layer after the last of its inputs, crossings reduced, long edges kept clear.

The steps are the classic ones (longest path, dummies for long edges, barycentres, coordinates by averaging), each
linear in the drawing's size; a view holds some fifty boxes, so nothing cleverer pays.
"""

from __future__ import annotations

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
    sizes: list[tuple[float, float]], edges: list[tuple[int, int]], *, late: set[int] = frozenset(), gap: float = 26, rise: float = 44  # type: ignore[assignment]
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
        for p, q in zip(chain, chain[1:], strict=False):
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
    for row in layers:
        at = 0.0
        for k in row:
            x[k] = at + sizes[k][0] / 2
            at += sizes[k][0] + gap
        for k in row:
            x[k] -= at / 2
    for sweep in range(16):
        rows = layers if sweep % 2 == 0 else layers[::-1]
        for row in rows:
            wish = []
            for k in row:
                near = up[k] + down[k] if sweep > 1 else up[k] if sweep == 0 else down[k]
                wish.append(sum(x[m] for m in near) / len(near) if near else x[k])
            # Left to right and right to left, then the mean: both keep the distances, so the mean does.
            first: list[float] = []
            for i, k in enumerate(row):
                low = first[-1] + (sizes[row[i - 1]][0] + sizes[k][0]) / 2 + gap if first else wish[i]
                first.append(max(low, wish[i]))
            second: list[float] = []
            for i in range(len(row) - 1, -1, -1):
                k = row[i]
                high = second[-1] - (sizes[row[i + 1]][0] + sizes[k][0]) / 2 - gap if second else wish[i]
                second.append(min(high, wish[i]))
            for k, a, b in zip(row, first, second[::-1], strict=True):
                x[k] = (a + b) / 2
    return x
