"""What Python calls of a step: builtins whose ``self`` is the step's table.

``check(arrays…)`` says whether arrays, and what the recording depended on, are as they were recorded;
``entry(arrays…)`` runs with them. The short way for tensors is one call, ``quick(inputs…, output)``: check and run; or
two, ``ready(inputs…, their arrays…)`` and ``go(output)``, where Python has something to do in between.

They are compiled once for all steps: they cost LLVM more than the kernels of a small step do.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from . import fits, native
from .table import expand

__all__ = ["builtin", "library"]

_PUT = """
define internal void @put(ptr %slots, ptr %objects, i64 %n) {
start:
  br label %next
next:
  %i = phi i64 [0, %start], [%j, %one]
  %more = icmp ult i64 %i, %n
  br i1 %more, label %one, label %done
one:
  %place = getelementptr ptr, ptr %objects, i64 %i
  %array = load ptr, ptr %place, align 8
  %data = FIELD i64 %array DATA
  %slot = getelementptr i64, ptr %slots, i64 %i
  store i64 %data, ptr %slot, align 8
  %j = add i64 %i, 1
  br label %next
done:
  ret void
}
"""
"""Note the data pointers of n arrays."""

_TAKES = """
define internal i64 @takes(ptr %table, ptr %tensors, ptr %kept) {
start:
  %inputs = WORD i64 inputs
  %rows = WORD ptr arguments
  %kind = WORD ptr tensor_type
  %given = icmp ne ptr %kept, null
  %arrays = alloca ptr, i64 %inputs, align 8
  %known = select i1 %given, ptr %kept, ptr %arrays
  br label %next
next:
  %i = phi i64 [0, %start], [%next_i, %alone]
  %more = icmp ult i64 %i, %inputs
  br i1 %more, label %one, label %list
one:
  %place = getelementptr ptr, ptr %tensors, i64 %i
  %tensor = load ptr, ptr %place, align 8
  %type = FIELD ptr %tensor 8
  %is_tensor = icmp eq ptr %type, %kind
  br i1 %is_tensor, label %look, label %bad
look:
  %row = getelementptr [6 x i64], ptr %rows, i64 %i
  %requires = FIELD ptr %tensor REQUIRES
  %wanted = FIELD ptr %row 8
  %as_recorded = icmp eq ptr %requires, %wanted
  %array = FIELD ptr %tensor ARRAY
  %home = getelementptr ptr, ptr %arrays, i64 %i
  store ptr %array, ptr %home, align 8
  %known_at = getelementptr ptr, ptr %known, i64 %i
  %expected = load ptr, ptr %known_at, align 8
  %as_given = icmp eq ptr %array, %expected
  %both = and i1 %as_recorded, %as_given
  br i1 %both, label %others, label %bad
others:
  %j = phi i64 [0, %look], [%next_j, %other]
  %before = icmp ult i64 %j, %i
  br i1 %before, label %other, label %alone
other:
  %other_at = getelementptr ptr, ptr %arrays, i64 %j
  %another = load ptr, ptr %other_at, align 8
  %next_j = add i64 %j, 1
  %twice = icmp eq ptr %array, %another
  br i1 %twice, label %bad, label %others
alone:
  %next_i = add i64 %i, 1
  br label %next
list:
  %fit = call i64 @fits(ptr %table, ptr %arrays)
  %fine = icmp eq i64 %fit, 1
  br i1 %fine, label %follow, label %bad
follow:
  %followed = WORD ptr followed
  %found = call i64 @changed(ptr %followed)
  SET row %found
  %slots = getelementptr i64, ptr %table, i64 FIRST
  call void @put(ptr %slots, ptr %arrays, i64 %inputs)
  %same = icmp eq i64 %found, -1
  %answer = select i1 %same, i64 1, i64 2
  ret i64 %answer
bad:
  ret i64 0
}
"""
"""Of tensors: 1 and their arrays noted; 0; or 2 where what can be followed has changed. A tensor is taken if it is a
plain one, requires a gradient or not as recorded, and no other argument has its array. ``kept``: null, or the arrays
that the caller found in the tensors and keeps alive."""

_PLACE = """
define internal void @place(ptr %table, ptr %given, i64 %n) {
start:
  %inputs = WORD i64 inputs
  %outputs = WORD i64 outputs
  %homes = WORD ptr homes
  %first = add i64 %inputs, FIRST
  %slots = getelementptr i64, ptr %table, i64 %first
  call void @put(ptr %slots, ptr %given, i64 %n)
  br label %next
next:
  %i = phi i64 [%n, %start], [%j, %one]
  %more = icmp ult i64 %i, %outputs
  br i1 %more, label %one, label %done
one:
  %home_at = getelementptr i64, ptr %homes, i64 %i
  %home = load i64, ptr %home_at, align 8
  %slot = getelementptr i64, ptr %slots, i64 %i
  store i64 %home, ptr %slot, align 8
  %j = add i64 %i, 1
  br label %next
done:
  ret void
}
"""
"""The first n outputs go to these arrays, the others to their homes."""

_BUILTINS = """
define internal void @start(ptr %table) {
  %run = WORD ptr run
  %status = call i64 %run(ptr %table)
  SET status %status
  ret void
}

define internal ptr @say(ptr %table, i64 %answer) {
  %words = getelementptr i64, ptr %table, i64 NO
  %which = getelementptr ptr, ptr %words, i64 %answer
  %object = load ptr, ptr %which, align 8
  %count = load i64, ptr %object, align 8
  %more = add i64 %count, 1
  store i64 %more, ptr %object, align 8
  ret ptr %object
}

define ptr @check(ptr %self, ptr %args, i64 %n) {
start:
  %table = FIELD ptr %self DATA
  %inputs = WORD i64 inputs
  %right = icmp eq i64 %n, %inputs
  br i1 %right, label %look, label %end
look:
  %found = call i64 @fits(ptr %table, ptr %args)
  br label %end
end:
  %answer = phi i64 [%found, %look], [0, %start]
  %object = call ptr @say(ptr %table, i64 %answer)
  ret ptr %object
}

define ptr @ready(ptr %self, ptr %args, i64 %n) {
start:
  %table = FIELD ptr %self DATA
  %inputs = WORD i64 inputs
  %wanted = mul i64 %inputs, 2
  %right = icmp eq i64 %n, %wanted
  br i1 %right, label %look, label %end
look:
  %kept = getelementptr ptr, ptr %args, i64 %inputs
  %found = call i64 @takes(ptr %table, ptr %args, ptr %kept)
  br label %end
end:
  %answer = phi i64 [%found, %look], [0, %start]
  %object = call ptr @say(ptr %table, i64 %answer)
  ret ptr %object
}

define ptr @quick(ptr %self, ptr %args, i64 %n) {
start:
  %table = FIELD ptr %self DATA
  %inputs = WORD i64 inputs
  %wanted = add i64 %inputs, 1
  %right = icmp eq i64 %n, %wanted
  br i1 %right, label %look, label %end
look:
  %found = call i64 @takes(ptr %table, ptr %args, ptr null)
  %yes = icmp eq i64 %found, 1
  br i1 %yes, label %ahead, label %end
ahead:
  %output = getelementptr ptr, ptr %args, i64 %inputs
  call void @place(ptr %table, ptr %output, i64 1)
  call void @start(ptr %table)
  br label %end
end:
  %answer = phi i64 [0, %start], [%found, %look], [1, %ahead]
  %object = call ptr @say(ptr %table, i64 %answer)
  ret ptr %object
}

define ptr @entry(ptr %self, ptr %args, i64 %n) {
  %table = FIELD ptr %self DATA
  %slots = getelementptr i64, ptr %table, i64 FIRST
  call void @put(ptr %slots, ptr %args, i64 %n)
  call void @start(ptr %table)
  %object = call ptr @say(ptr %table, i64 1)
  ret ptr %object
}

define ptr @go(ptr %self, ptr %args, i64 %n) {
  %table = FIELD ptr %self DATA
  call void @place(ptr %table, ptr %args, i64 %n)
  call void @start(ptr %table)
  %object = call ptr @say(ptr %table, i64 1)
  ret ptr %object
}
"""
"""Functions with Python's fast calling convention. ``say``: an answer as an object, with a reference for the caller."""


@functools.cache
def library() -> native.Library:
    """The functions, compiled once."""
    return native.load(expand("\n".join([_PUT, fits.text(), _TAKES, _PLACE, _BUILTINS])))


class _MethodDef(ctypes.Structure):
    """Python's description of a function in C (PyMethodDef)."""

    _fields_ = (("name", ctypes.c_char_p), ("address", ctypes.c_void_p), ("flags", ctypes.c_int),
                ("doc", ctypes.c_char_p))  # fmt: skip


_FASTCALL = 0x80


@functools.cache
def _method(name: str) -> _MethodDef:
    """The description of one of the functions; builtins refer to it, but do not keep it."""
    return _MethodDef(name.encode(), library().address(name), _FASTCALL, None)


def builtin(name: str, table: Any) -> Callable[..., Any]:
    """One of the functions for a step's table as a builtin of Python, which is called without ctypes' cost."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.addressof(_method(name)), table, None)
