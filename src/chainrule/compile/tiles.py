"""Which tile of a product's result stays in registers: rows, and vectors side by side."""

from __future__ import annotations

from . import native
from .ir import SIZE
from .nodes import Access, Node

__all__ = ["large_tile", "packed_tile", "tile_shape"]


def tile_shape(m: int, vectors: int, registers: int) -> tuple[int, int]:
    """Rows and vectors of the register tile: enough accumulators to hide the latency of fma, few leftovers, and all of
    them (with a row of B and an entry of A) in registers at once."""
    best = (0.0, 1, 1)
    for nv in range(1, min(4, vectors) + 1):
        panels = -(-vectors // nv)
        for mr in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16):
            if mr > m or mr * nv > min(24, registers - nv - 1):
                continue
            blocks = -(-m // mr)
            # Cycles per k step of one tile: two fmas a cycle, two loads a cycle, and four cycles of latency.
            cycles = max(mr * nv / 2, (mr + nv) / 2, 4)
            score = 1 / (panels * blocks * (cycles + 0.3))
            if score > best[0]:
                best = (score, mr, nv)
    return best[1], best[2]


def large_tile(m: int, registers: int) -> tuple[int, int]:
    """The tile of products that are packed: two vectors wide, as high as the registers allow with few rows left."""
    highest = 6 if registers == 16 else 12
    rows = min(range(highest, highest - 2, -1), key=lambda r: (-(-m // r) * (r + 0.5), -r))
    return min(rows, m), 2


def packed_tile(node: Node) -> tuple[int, int] | None:
    """The tile of a product whose B is packed beforehand; None where that does not suit it."""
    size, lanes = SIZE[node.compute], native.vector_bytes() // SIZE[node.compute]
    m, n, k = node.shape[-2], node.shape[-1], node.params["k"]
    b = node.args[1]
    assert isinstance(b, Access)
    if m < 2 or n <= lanes or k < 16:
        return None
    mr, nv = tile_shape(m, -(-n // lanes), native.vector_registers())
    return (mr, nv) if k * nv * lanes * size <= 32 * 1024 else None
