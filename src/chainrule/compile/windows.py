"""Where the windows of a convolution or a pooling lie, axis by axis."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Axis", "gathering", "scattering", "tiles"]


@dataclass(frozen=True, slots=True)
class Axis:
    """Results ``start + stride · t`` for t < ``count``; each sums over taps (k, e): input ``step · t + e``, weight k.

    Offsets e ascend in equal steps. Input outside 0 … ``size`` counts as zero.
    """

    count: int
    start: int
    stride: int
    size: int
    step: int
    taps: tuple[tuple[int, int], ...]

    def inside(self, t: int, e: int) -> bool:
        """Whether the input at offset e of result t exists."""
        return 0 <= self.step * t + e < self.size


def gathering(size: int, count: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[Axis, ...]:
    """The axis of a convolution: windows of an input of ``size``."""
    taps = tuple((k, k * dilation - padding) for k in range(kernel))
    return (Axis(count, 0, 1, size, stride, taps),)


def scattering(size: int, count: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[Axis, ...]:
    """The axis of its transpose, which is a convolution for each residue of the result's position by the stride.

    Args:
        size: of the result, which is the convolution's input.
        count: number of windows.
    """
    out: list[Axis] = []
    for a in range(min(stride, size)):
        places = [(k, a + padding - k * dilation) for k in reversed(range(kernel))]
        taps = tuple((k, e // stride) for k, e in places if e % stride == 0)
        out.append(Axis(-(-(size - a) // stride), a, stride, count, 1, taps))
    return tuple(out)


def tiles(n: int, most: int) -> list[tuple[int, int]]:
    """(start, width) of the fewest tiles of at most ``most`` that cover n, as even as possible, wide ones first."""
    number = -(-n // most)
    width, wider = divmod(n, number)
    out: list[tuple[int, int]] = []
    at = 0
    for i in range(number):
        out.append((at, width + (i < wider)))
        at += out[-1][1]
    return out
