"""Whether a step may run: arrays, and what the recording depended on, are as they were recorded.

The native code is the same for all steps; what a step expects stands in its table and in rows that this points to. It
reads NumPy's array objects, whose layout its C API fixes: type at 8, data at 16, number of dims at 24, dims and strides
at 32 and 40, dtype at 56, flags at 64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .decompose import Check
from .nodes import contiguous

if TYPE_CHECKING:
    from .link import Step

__all__ = ["argument_rows", "exceptions", "runs", "target_rows", "text"]

WRITEABLE = 0x400
"""A flag of NumPy's arrays."""

_CHANGED = """
define internal i64 @changed(ptr %pairs) {
start:
  br label %next
next:
  %i = phi i64 [0, %start], [%j, %same]
  %pair = getelementptr [2 x ptr], ptr %pairs, i64 %i
  %place = load ptr, ptr %pair, align 8
  %ended = icmp eq ptr %place, null
  br i1 %ended, label %none, label %look
look:
  %now = load ptr, ptr %place, align 1
  %expected = FIELD ptr %pair 8
  %test = icmp eq ptr %now, %expected
  br i1 %test, label %same, label %found
same:
  %j = add i64 %i, 1
  br label %next
found:
  ret i64 %i
none:
  ret i64 -1
}
"""
"""The first of the pairs (address, word) whose word in memory is another now, or −1; a null address ends them."""

_MEETS = """
define internal i1 @meets(ptr %ranges, i64 %first, i64 %size) {
start:
  %last = add i64 %first, %size
  br label %next
next:
  %i = phi i64 [0, %start], [%j, %apart]
  %range = getelementptr [2 x i64], ptr %ranges, i64 %i
  %low = load i64, ptr %range, align 8
  %ended = icmp eq i64 %low, 0
  br i1 %ended, label %none, label %look
look:
  %high = FIELD i64 %range 8
  %below = icmp ult i64 %first, %high
  %above = icmp ugt i64 %last, %low
  %both = and i1 %below, %above
  br i1 %both, label %found, label %apart
apart:
  %j = add i64 %i, 1
  br label %next
found:
  ret i1 true
none:
  ret i1 false
}
"""
"""Whether memory lies in one of the ranges (first byte, byte behind the last); a range that starts at 0 ends them."""

_ARGUMENT = """
define internal i1 @argument(ptr %array, ptr %row, ptr %kind, ptr %written) {
start:
  %type = FIELD ptr %array 8
  %is_array = icmp eq ptr %type, %kind
  br i1 %is_array, label %look, label %bad
look:
  %dtype = FIELD ptr %array 56
  %wanted_dtype = FIELD ptr %row 0
  %same_dtype = icmp eq ptr %dtype, %wanted_dtype
  %rank = FIELD i32 %array 24
  %wanted_rank = FIELD i64 %row 16
  %long_rank = sext i32 %rank to i64
  %same_rank = icmp eq i64 %long_rank, %wanted_rank
  %flags = FIELD i32 %array 64
  %needed = FIELD i32 %row 24
  %has = and i32 %flags, %needed
  %has_flags = icmp eq i32 %has, %needed
  %both = and i1 %same_dtype, %same_rank
  %all = and i1 %both, %has_flags
  br i1 %all, label %shape, label %bad
shape:
  %dims = FIELD ptr %array 32
  %strides = FIELD ptr %array 40
  %wanted_dims = FIELD ptr %row 40
  br label %next
next:
  %d = phi i64 [0, %shape], [%e, %dim]
  %more = icmp ult i64 %d, %wanted_rank
  br i1 %more, label %dim, label %memory
dim:
  %dim_at = getelementptr i64, ptr %dims, i64 %d
  %length = load i64, ptr %dim_at, align 8
  %stride_at = getelementptr i64, ptr %strides, i64 %d
  %stride = load i64, ptr %stride_at, align 8
  %wanted_at = getelementptr [2 x i64], ptr %wanted_dims, i64 %d
  %wanted_length = load i64, ptr %wanted_at, align 8
  %wanted_stride = FIELD i64 %wanted_at 8
  %same_length = icmp eq i64 %length, %wanted_length
  %same_stride = icmp eq i64 %stride, %wanted_stride
  %any_stride = icmp eq i64 %wanted_stride, 0
  %good_stride = or i1 %same_stride, %any_stride
  %same_dim = and i1 %same_length, %good_stride
  %e = add i64 %d, 1
  br i1 %same_dim, label %next, label %bad
memory:
  %data = FIELD i64 %array DATA
  %size = FIELD i64 %row 32
  %some = icmp ne i64 %size, 0
  br i1 %some, label %ranges, label %good
ranges:
  %met = call i1 @meets(ptr %written, i64 %data, i64 %size)
  br i1 %met, label %bad, label %good
good:
  ret i1 true
bad:
  ret i1 false
}
"""
"""Whether an array is as its row says (see ``argument_rows``), and apart from what the step writes."""

_TARGET = """
define internal i1 @target(ptr %table, ptr %arrays, ptr %row) {
start:
  %input = FIELD i64 %row 8
  %slot = FIELD i64 %row 16
  %given = icmp sge i64 %input, 0
  br i1 %given, label %argument, label %constant
argument:
  %place = getelementptr ptr, ptr %arrays, i64 %input
  %array = load ptr, ptr %place, align 8
  %data = FIELD ptr %array DATA
  br label %start_rows
constant:
  %at = getelementptr ptr, ptr %table, i64 %slot
  %home = load ptr, ptr %at, align 8
  br label %start_rows
start_rows:
  %base = phi ptr [%data, %argument], [%home, %constant]
  %scan = FIELD ptr %row 0
  %runs = FIELD i64 %row 24
  %starts = FIELD ptr %row 32
  br label %next
next:
  %i = phi i64 [0, %start_rows], [%j, %one]
  %more = icmp ult i64 %i, %runs
  br i1 %more, label %one, label %good
one:
  %start_at = getelementptr i64, ptr %starts, i64 %i
  %offset = load i64, ptr %start_at, align 8
  %first = getelementptr i8, ptr %base, i64 %offset
  %fine = call i1 %scan(ptr %first, ptr %row)
  %j = add i64 %i, 1
  br i1 %fine, label %next, label %bad
good:
  ret i1 true
bad:
  ret i1 false
}
"""
"""Whether all entries of a value are as its row says (see ``target_rows``)."""

_SCAN = """
define i1 @scan.NAME(ptr %first, ptr %row) {
start:
  %n = FIELD i64 %row 40
  %step = FIELD i64 %row 48
  %low = FIELD i64 %row 56
  %range = FIELD i64 %row 64
  %also = FIELD i64 %row 72
  %never = FIELD i64 %row 80
  br label %next
next:
  %i = phi i64 [0, %start], [%j, %one]
  %more = icmp ult i64 %i, %n
  br i1 %more, label %one, label %good
one:
  %offset = mul i64 %i, %step
  %place = getelementptr i8, ptr %first, i64 %offset
  %entry = load TYPE, ptr %place, align 1
  %x = WIDEN
  %above = sub i64 %x, %low
  %inside = icmp ult i64 %above, %range
  %is_also = icmp eq i64 %x, %also
  %may = or i1 %inside, %is_also
  %not_never = icmp ne i64 %x, %never
  %fine = and i1 %may, %not_never
  %j = add i64 %i, 1
  br i1 %fine, label %next, label %bad
good:
  ret i1 true
bad:
  ret i1 false
}
"""
"""Whether n entries of an integer type, ``step`` bytes apart, are in a range or ``also``, and none is ``never``."""
_SCANNED = ("int64", "int32", "int16", "int8")


def _scan(name: str) -> str:
    kind = f"i{name[3:]}"
    wide = "add i64 %entry, 0" if kind == "i64" else f"sext {kind} %entry to i64"
    return _SCAN.replace("NAME", name).replace("TYPE", kind).replace("WIDEN", wide)


_FITS = """
define internal i64 @fits(ptr %table, ptr %arrays) {
start:
  %count = WORD ptr threads
  %threads = load i64, ptr %count, align 8
  %wanted = WORD i64 wanted
  %as_many = icmp eq i64 %threads, %wanted
  br i1 %as_many, label %list, label %bad
list:
  %inputs = WORD i64 inputs
  %rows = WORD ptr arguments
  %kind = WORD ptr array_type
  %written = WORD ptr written
  br label %next
next:
  %i = phi i64 [0, %list], [%j, %one]
  %more = icmp ult i64 %i, %inputs
  br i1 %more, label %one, label %words
one:
  %place = getelementptr ptr, ptr %arrays, i64 %i
  %array = load ptr, ptr %place, align 8
  %row = getelementptr [6 x i64], ptr %rows, i64 %i
  %right = call i1 @argument(ptr %array, ptr %row, ptr %kind, ptr %written)
  %j = add i64 %i, 1
  br i1 %right, label %next, label %bad
words:
  %watched = WORD ptr watched
  %found = call i64 @changed(ptr %watched)
  %steady = icmp eq i64 %found, -1
  br i1 %steady, label %values, label %bad
values:
  %checked = WORD i64 checked
  %targets = WORD ptr targets
  br label %next_value
next_value:
  %k = phi i64 [0, %values], [%l, %value]
  %another = icmp ult i64 %k, %checked
  br i1 %another, label %value, label %good
value:
  %target = getelementptr [11 x i64], ptr %targets, i64 %k
  %inside = call i1 @target(ptr %table, ptr %arrays, ptr %target)
  %l = add i64 %k, 1
  br i1 %inside, label %next_value, label %bad
good:
  ret i64 1
bad:
  ret i64 0
}
"""
"""1, or 0 where an array or what the recording depended on is another."""


def text() -> str:
    """The functions, in the short forms that ``table.expand`` knows."""
    return "\n".join([_CHANGED, _MEETS, _ARGUMENT, _TARGET, *map(_scan, _SCANNED), _FITS])


def argument_rows(step: Step) -> list[Any]:
    """The rows about the inputs, and the lengths and strides that they point to.

    A row: dtype, requires a gradient (set later, where it matters), rank, flags, bytes, where its dims are described:
    (length, stride in bytes) of each; a stride of 0 may be any.
    """
    inputs = step.program.inputs
    rows = np.zeros((len(inputs), 6), np.int64)
    described: list[Any] = []
    for row, v in zip(rows, inputs, strict=True):
        matter = 0 not in v.shape
        strides = [s * v.dtype.itemsize * (matter and n > 1) for n, s in zip(v.shape, contiguous(v.shape), strict=True)]
        dims = np.array([*zip(v.shape, strides, strict=True)], np.int64)
        described.append(dims)
        flags = WRITEABLE if v in step.writes else 0
        size = math.prod(v.shape) * v.dtype.itemsize
        row[:] = id(np.dtype(v.dtype.str)), 0, len(v.shape), flags, size, dims.ctypes.data
    return [rows, *described]


def target_rows(step: Step, address: Callable[[str], int]) -> list[Any]:
    """The rows about values that have to be in a range, and the lists of bytes that they point to.

    A row: the function for its dtype, which input or else which word of the table points to it, at how many places in
    memory runs of entries start, where these are listed, length and stride of a run, lowest value, number of values,
    one that is fine as well, one that is not. ``address`` finds the functions by name.
    """
    checks = [check for check in step.checks if 0 not in check.target.shape]
    rows = np.zeros((len(checks), 11), np.int64)
    listed: list[Any] = []
    made = {o: instr for instr in step.program.instrs for o in instr.outs}
    for row, check in zip(rows, checks, strict=True):
        target = check.target
        root, offset, strides = step.storage.refs[target]
        while root in made:  # a view that had to be copied (x[:, 1:].flatten()): what it is copied from
            target = made[root].args[0]
            root, offset, strides = step.storage.refs[target]
        size = target.dtype.itemsize
        scan = address(f"scan.{target.dtype.name}")
        given = step.program.inputs.index(root) if root in step.program.inputs else -1
        *outer, (n, stride) = runs(target.shape, strides)
        starts = np.zeros(1, np.int64) + offset * size
        for m, s in outer:
            starts = np.add.outer(starts, np.arange(m) * s * size).reshape(-1)
        listed.append(starts)
        row[:6] = scan, given, 0 if given >= 0 else step.slots[root], starts.size, starts.ctypes.data, n
        row[6:] = stride * size, check.low, check.classes - check.low, *exceptions(check)
    return [rows, *listed]


def runs(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """The dims (length, stride), with those that lie behind each other in memory as one."""
    found: list[tuple[int, int]] = [(1, 0)]
    for n, s in zip(shape, strides, strict=True):
        length, stride = found[-1]
        if n == 1:
            continue
        if length == 1:
            found[-1] = n, s
        elif stride == n * s:
            found[-1] = length * n, s
        else:
            found.append((n, s))
    return found


def exceptions(check: Check) -> tuple[int, int]:
    """A value that is fine as well as those in the range, and one that is not; where there are none: one that is out of
    range anyway."""
    outside = next(x for x in (check.low - 1, check.classes) if x != check.ignore)
    if check.ignore is None:
        return outside, outside
    return (check.ignore, check.ignore) if check.plain else (check.ignore, outside)
