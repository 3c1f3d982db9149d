"""The table of a step: words that its native code reads.

The first are the same for all steps. The pointers to the inputs' data come next, then those to the outputs' and to the
constants'.
"""

from __future__ import annotations

import re

from .words import ARRAY, REQUIRES

__all__ = ["DATA", "FIRST", "WORDS", "expand"]

DATA = 16
"""Where a NumPy array object keeps its data pointer (PyArrayObject: refcount, type, data, …)."""

WORDS = {
    name: place
    for place, name in enumerate((
        "status", "arena", "callback", "run",  # what the step answered, its memory, its NumPy bodies, its code
        "no", "yes", "other",  # the answers, as Python objects
        "array_type", "tensor_type",
        "threads", "wanted",  # where the number of threads stands, and what it was when the step was made
        "inputs", "outputs",  # how many there are
        "arguments",  # a row about each input: see ``argument_rows``
        "checked", "targets",  # how many values have to be in a range, and a row about each: see ``target_rows``
        "watched", "followed", "row",  # words that have to be as they were, and which of the followed ones is not
        "written",  # memory outside that the step writes
        "homes",  # where outputs go that have a place of their own
        "clock", "fork", "pool",
    ))
}  # fmt: skip
"""The words of a step's table that native code of all steps knows; the pointers to the inputs' data come next, then
those to the outputs' and to the constants'."""
FIRST = len(WORDS)
"""Where the pointers to the inputs begin."""


def expand(text: str) -> str:
    """Native text with short forms: ``WORD type name`` loads a word of ``%table``, ``FIELD type base offset`` what lies
    that many bytes into something, ``SET name value`` stores a word.

    >>> print(expand("%n = WORD i64 inputs"))
    %n.at = getelementptr i8, ptr %table, i64 88
    %n = load i64, ptr %n.at, align 8
    """
    numbers = {"DATA": DATA, "ARRAY": ARRAY, "REQUIRES": REQUIRES, "FIRST": FIRST, "NO": WORDS["no"]}
    text = re.sub(r"\b(" + "|".join(numbers) + r")\b", lambda m: str(numbers[m[1]]), text)
    text = re.sub(r"WORD (\w+) (\w+)", lambda m: f"FIELD {m[1]} %table {8 * WORDS[m[2]]}", text)
    text = re.sub(
        r"( *)(%\w+) = FIELD (\w+) (%\w+) (\d+)",
        r"\1\2.at = getelementptr i8, ptr \4, i64 \5\n\1\2 = load \3, ptr \2.at, align 8",
        text,
    )
    return re.sub(
        r"( *)SET (\w+) (%\w+)",
        lambda m: (
            f"{m[1]}%at.{m[2]} = getelementptr i8, ptr %table, i64 {8 * WORDS[m[2]]}\n"
            f"{m[1]}store i64 {m[3]}, ptr %at.{m[2]}, align 8"
        ),
        text,
    )
