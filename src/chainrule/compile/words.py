"""Words in memory that change when an object does, for native code to compare: pairs (address, word).

The array behind a tensor, what a closure's cell holds, the entries of a list or of a dict, the version that CPython
counts for a dict (3.11 and 3.12). Layouts are probed when this module loads, never assumed.
"""

from __future__ import annotations

import ctypes
import sys
import types
import weakref
from typing import Any

import numpy as np

from ..core.variable import wrap
from ..errors import ChainruleError

__all__ = [
    "ARRAY", "FOLLOWED", "REQUIRES", "TAGGED", "WEAK", "Word", "attributes", "cell_word", "dict_entry", "list_entries",
    "tag", "tag_word",
]  # fmt: skip

Word = tuple[int, int]


def _slot(name: str) -> int:
    """Where a tensor object keeps the pointer to an attribute that has a slot."""
    probe = wrap(np.zeros(1), requires=True)
    wanted = id(getattr(probe, name))
    for offset in range(16, type(probe).__basicsize__, 8):
        if ctypes.c_void_p.from_address(id(probe) + offset).value == wanted:
            return offset
    raise ChainruleError("compile: tensor objects have an unknown layout")


def _weak() -> int:
    """Where a tensor object keeps its list of weak references; 0 where that cannot be found."""
    probe = wrap(np.zeros(1))
    reference = weakref.ref(probe)
    for offset in (*range(16, type(probe).__basicsize__, 8), -32):
        if ctypes.c_void_p.from_address(id(probe) + offset).value == id(reference):
            return offset
    return 0


def _read(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


def tag(d: dict[Any, Any]) -> int:
    """The version of a dict, which CPython counts up with every change (until 3.12)."""
    return _read(id(d) + _TAG)


def tag_word(d: dict[Any, Any]) -> Word:
    return id(d) + _TAG, tag(d)


def cell_word(x: types.CellType) -> Word:
    """What a closure's variable is; nothing, where it was deleted."""
    return id(x) + 16, _read(id(x) + 16)


def list_entries(x: list[Any]) -> list[Word]:
    """The length, the place and the entries of a list, in an order in which each makes the next safe to read."""
    place = _read(id(x) + 24)
    return [(id(x) + 16, len(x)), (id(x) + 24, place), *((place + 8 * i, id(y)) for i, y in enumerate(x))]


def dict_entry(d: dict[Any, Any], key: Any) -> list[Word]:
    """One entry of a dict, whatever happens to the others; empty where it cannot be found.

    The place of the table of keys, its size and kind, the key and the value; each makes the next safe to read.
    """
    keys, values = _read(id(d) + _KEYS), _read(id(d) + _VALUES)
    kind = ctypes.c_uint8.from_address(keys + 10).value
    first = keys + 32 + (1 << ctypes.c_uint8.from_address(keys + 9).value)
    width = 24 if kind == 0 else 16
    for i in range(_read(keys + 24)):
        at = first + width * i + (8 if kind == 0 else 0)
        name = _read(at)
        if name and ctypes.cast(name, ctypes.py_object).value == key:
            # From the upper half of its count of references on: sizes and kind, without the version of the keys.
            words = [(id(d) + _KEYS, keys), (keys + 4, _read(keys + 4)), (at, name)]
            place = values + 8 * i if values else at + 8
            held = _read(place)
            return [*words, (id(d) + _VALUES, values), (place, held)] if held else []
    return []


def attributes(x: Any) -> list[Word]:
    """That the dict of an object's attributes is still that dict; empty where it cannot be found."""
    d = vars(x)
    for offset in (-24, -32, *range(16, type(x).__basicsize__, 8)):
        if _read(id(x) + offset) == id(d):
            return [(id(x) + offset, id(d))]
    return []


def _has_tags() -> bool:
    if sys.version_info >= (3, 13) or sys.implementation.name != "cpython":
        return False
    probe = {"a": 1}
    tags = [tag(probe)]
    for key, x in (("a", 2), ("b", 1)):
        probe[key] = x
        tags.append(tag(probe))
    return len(set(tags)) == 3


def _has_entries() -> bool:
    """Whether dicts, those of attributes too, are laid out as ``dict_entry`` and ``attributes`` read them."""
    probe = wrap(np.zeros(1))
    probe._grad = first = wrap(np.zeros(1))
    other = wrap(np.zeros(1))
    cases: list[tuple[dict[Any, Any], Any]] = [({"a": 1, "b": first, "c": 2}, "b"), ({1: first, "d": 2}, 1)]
    for d, key in (*cases, (vars(probe), "_grad")):
        words = dict_entry(d, key)
        if not words or words[-1][1] != id(first) or any(_read(a) != w for a, w in words):
            return False
        d[key] = other
        if _read(words[-1][0]) != id(other):
            return False
        d[key] = first
    return bool(attributes(probe))


_TAG, _KEYS, _VALUES = 24, 32, 40
ARRAY, REQUIRES, WEAK = _slot("_array"), _slot("_requires"), _weak()
TAGGED = _has_tags()
FOLLOWED = TAGGED and WEAK != 0 and _has_entries()
"""Whether single entries of dicts can be watched as well."""
