"""Arrays that end where memory that may not be touched begins, so that reading past the end is a fault at once."""

import ctypes
import mmap

import numpy as np

PAGE = mmap.PAGESIZE
_POOL = {}
"""Regions that are free again, by their number of pages."""


def available():
    """Whether pages can be protected here."""
    return hasattr(ctypes.CDLL(None), "mprotect") if hasattr(mmap, "PROT_READ") else False


class Guarded:
    """A copy of ``a`` whose last byte (or, with ``front``, whose first) touches a page without access."""

    def __init__(self, a, front=False):
        self.pages = max(1, -(-a.nbytes // PAGE))
        pool = _POOL.setdefault(self.pages, [])
        self.memory, self.start = pool.pop() if pool else _region(self.pages)
        size = self.pages * PAGE
        offset = PAGE if front else PAGE + size - a.nbytes
        raw = np.frombuffer((ctypes.c_char * size).from_address(self.start + PAGE), np.uint8)
        raw[:] = 0xA5
        inside = raw[offset - PAGE : offset - PAGE + a.nbytes]
        self.rest = (raw, offset - PAGE, a.nbytes)
        self.array = inside.view(a.dtype).reshape(a.shape) if a.nbytes else np.empty(a.shape, a.dtype)
        self.array[...] = a

    def check(self):
        """Raise if anything in the array's pages but outside the array was written."""
        raw, start, n = self.rest
        assert (raw[:start] == 0xA5).all(), "written before an array"
        assert (raw[start + n :] == 0xA5).all(), "written behind an array"

    def release(self):
        """Let another array use the memory."""
        _POOL[self.pages].append((self.memory, self.start))


def _region(pages):
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for at in (start, start + (pages + 1) * PAGE):
        if protect(at, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    return memory, start
