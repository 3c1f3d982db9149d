"""Sequences of different lengths: padded together, or packed without the padding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ...core import dtypes
from ...core.live import values_read
from ...core.variable import Variable, wrap
from ...errors import ShapeError, message
from ...ops import join, layout
from ...ops.pad import pad_constant, take_axis

__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence",
    "pad_sequence", "unpack_sequence", "unpad_sequence",
]  # fmt: skip


class _Packed(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any = None
    unsorted_indices: Any = None


class PackedSequence(_Packed):
    """Sequences, longest first, step by step: ``data`` holds the entries of step 0, then of step 1, …;
    ``batch_sizes[t]`` is the number of sequences that have a step t."""

    __slots__ = ()

    def __new__(
        cls, data: Any, batch_sizes: Any = None, sorted_indices: Any = None, unsorted_indices: Any = None
    ) -> PackedSequence:
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """With ``data`` converted; the same object when there is nothing to convert."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else self._replace(data=data)

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same: it is on the CPU."""
        return self

    def pin_memory(self) -> PackedSequence:
        """The same: only copies to a GPU need pinned memory."""
        return self

    def is_pinned(self) -> bool:
        return False

    @property
    def is_cuda(self) -> bool:
        return False


def _converting(name: str) -> Any:
    def convert(self: PackedSequence) -> PackedSequence:
        return self.to(dtype=getattr(dtypes, name))

    convert.__name__, convert.__doc__ = name, f"With ``data`` as {name}."
    return convert


for _name, _dtype in (
    ("double", "float64"), ("float", "float32"), ("half", "float16"), ("long", "int64"), ("int", "int32"),
    ("short", "int16"), ("char", "int8"), ("byte", "uint8"),
):  # fmt: skip
    setattr(PackedSequence, _name, _converting(_dtype))


def invert_permutation(permutation: Any) -> Any:
    """The permutation that undoes ``permutation``; None of None."""
    values_read(permutation, "invert_permutation")
    return None if permutation is None else wrap(np.argsort(permutation._array))


def _places(batch_sizes: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    """Where, in a flattened (T, N) grid, the packed entries are."""
    return np.concatenate([t * width + np.arange(n) for t, n in enumerate(batch_sizes)])


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Padded sequences (T, N, …) (or (N, T, …)) with their lengths, as a ``PackedSequence``.

    Raises:
        RuntimeError: for a length of 0, or lengths that do not decrease though ``enforce_sorted``.
    """
    values_read(lengths, "pack_padded_sequence with lengths in a tensor")
    sizes = np.asarray(lengths._array if isinstance(lengths, Variable) else lengths, np.int64)
    x = layout.permute(input, dims=(1, 0, *range(2, input._array.ndim))) if batch_first else input
    if sizes.shape != (x._array.shape[1],):
        raise ShapeError(
            message(
                f"Expected `len(lengths)` to be equal to batch_size, but got {sizes.size} "
                f"(batch_size={x._array.shape[1]})"
            )
        )
    if sizes.size and sizes.min() <= 0:
        raise ShapeError(
            message("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
        )
    order = None
    if not enforce_sorted:
        order = np.argsort(-sizes, kind="stable")
        sizes = sizes[order]
        x = take_axis(x, wrap(order), dim=1)
    elif (np.diff(sizes) > 0).any():
        raise ShapeError(
            message(
                "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
                "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement if "
                "you do not need ONNX exportability."
            )
        )
    if sizes[0] > x._array.shape[0]:
        raise ShapeError(message(f"a length of {sizes[0]} is more than the {x._array.shape[0]} steps of the input"))
    batch_sizes = (np.arange(sizes[0])[:, None] < sizes).sum(1)
    t, n = x._array.shape[:2]
    flat = layout.reshape(x, shape=(t * n, *x._array.shape[2:]))
    data = take_axis(flat, wrap(_places(batch_sizes, n)), dim=0)
    return PackedSequence(data, wrap(batch_sizes), None if order is None else wrap(order))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Any, Any]:
    """The padded sequences (T, N, …) of a packed one, and their lengths."""
    from ...ops.pad import add_axis

    values_read((sequence.batch_sizes, sequence.unsorted_indices), "pad_packed_sequence")
    counts = sequence.batch_sizes._array
    t, n = len(counts), int(counts[0])
    if total_length is not None:
        if total_length < t:
            raise ValueError(
                "Expected total_length to be at least the length of the longest sequence in input, but got "
                f"total_length={total_length} and max sequence length being {t}"
            )
        t = total_length
    rest = sequence.data._array.shape[1:]
    places = _places(counts, n)
    flat = add_axis(sequence.data, wrap(places), size=t * n, dim=0)
    if padding_value:
        gap = np.full((t * n, *rest), padding_value, sequence.data._array.dtype)
        gap[places] = 0
        flat = flat + wrap(gap)
    x = layout.reshape(flat, shape=(t, n, *rest))
    lengths = (counts[None, :] > np.arange(n)[:, None]).sum(1)
    if sequence.unsorted_indices is not None:
        x = take_axis(x, sequence.unsorted_indices, dim=1)
        lengths = lengths[sequence.unsorted_indices._array]
    if batch_first:
        x = layout.permute(x, dims=(1, 0, *range(2, x._array.ndim)))
    return x, wrap(lengths)


def mask_of(lengths: Any) -> Any:
    """(T, N, 1): whether sequence n has a step t."""
    a = lengths._array
    return wrap((np.arange(a.max())[:, None] < a)[..., None])


def repack(x: Any, like: PackedSequence) -> PackedSequence:
    """Padded, sorted sequences (T, N, …) packed as ``like`` is."""
    values_read(like.batch_sizes, "packed sequences")
    t, n = x._array.shape[:2]
    flat = layout.reshape(x, shape=(t * n, *x._array.shape[2:]))
    return like._replace(data=take_axis(flat, wrap(_places(like.batch_sizes._array, n)), dim=0))


def pad_sequence(
    sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Any:
    """Tensors (Lᵢ, …) padded to the longest and stacked: (T, N, …), or (N, T, …)."""
    if not isinstance(sequences, Iterable):
        raise ShapeError(
            message(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
        )
    items = list(sequences)
    if not items:
        raise ShapeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise ShapeError(message(f"Expected padding_side to be one of left or right, but got {padding_side}."))
    for s in items:
        for axis, (a, b) in enumerate(zip(items[0]._array.shape[1:], s._array.shape[1:], strict=True), 1):
            if a != b:
                raise ShapeError(
                    message(
                        f"The size of tensor a ({a}) must match the size of tensor b ({b}) at non-singleton "
                        f"dimension {axis}"
                    )
                )
    longest = max(s._array.shape[0] for s in items)
    padded = []
    for s in items:
        short = longest - s._array.shape[0]
        width = (short, 0) if padding_side == "left" else (0, short)
        widths = (width, *((0, 0) for _ in s._array.shape[1:]))
        padded.append(pad_constant(s, widths=widths, value=padding_value))
    return join.stack(*padded, dim=0 if batch_first else 1)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Any]:
    """The tensors (Lᵢ, …) that ``pad_sequence`` put together."""
    values_read(lengths, "unpad_sequence")
    x = padded_sequences
    if not batch_first:
        x = layout.permute(x, dims=(1, 0, *range(2, x._array.ndim)))
    return [row[: int(n)] for row, n in zip(join.unbind(x, dim=0), lengths._array, strict=True)]


def pack_sequence(sequences: Iterable[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors (Lᵢ, …), longest first, packed."""
    items = list(sequences)
    lengths = [s._array.shape[0] for s in items]
    return pack_padded_sequence(pad_sequence(items), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """The tensors (Lᵢ, …) of a packed sequence."""
    padded, lengths = pad_packed_sequence(packed_sequences)
    return unpad_sequence(padded, lengths)
