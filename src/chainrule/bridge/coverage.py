"""The table of what of PyTorch is here: ``python -m chainrule.bridge.coverage > docs/pytorch.md``.

It compares chainrule's namespaces with the list of PyTorch's public names, so it needs no PyTorch and cannot go stale
unnoticed: a test asserts that the file is what this prints.
"""

from __future__ import annotations

import functools
from typing import Any

import chainrule

from ..core import left_out

__all__ = ["covered", "page"]

_DIFFERS = """\
* **Random numbers**: the same distributions, from a stream of our own. `manual_seed` makes a run repeatable, not equal
  to PyTorch's; where both must start equal, fill the parameters from NumPy or load a checkpoint.
* **Devices**: the CPU only. `cuda.is_available()`, `backends.mps.is_available()` and `accelerator.is_available()` say
  so; asking for another raises, as in a PyTorch without it.
* **dtypes**: bool, integers up to 64 bits, float16, bfloat16, float32, float64. `bfloat16` is stored in 16 bits and
  computed in float32. No complex, sparse, quantised or nested tensors, no Fourier transforms.
* **`amp`**: `autocast` and `GradScaler` are accepted and compute in the tensors' own precision.
* **`compile`**: `chainrule.compile(step)` makes native code of a whole step, backward and update included; a model by
  itself comes back as it is (its backward pass lies outside). PyTorch's compiler options are accepted, without effect.
* **`vmap`** records the function on one example and runs the record on the whole batch; what a record cannot stand for
  (Python that looks at values, writes to memory from outside, `randomness="different"`, gradients through a custom
  `Function`) runs example by example. `jacfwd`, `jvp` and `linearize` differentiate the backward pass.
* **`distributions`**: all of them. Gradients of gamma and beta samples are accurate to about 1e-9 (PyTorch's are
  approximations, good to 1e-2 … 1e-5); they cannot be differentiated a second time, as in PyTorch.
* **`torch.__version__`** is "2.13.0+chainrule" where chainrule stands in torch's place (`chainrule run`, `as_torch()`),
  so that programs which ask for a version find the API they may use; `chainrule.__version__` is chainrule's own.
* **`multiprocessing`** can be imported and set up; starting a process raises, since tensors are not shared.
* **`jit`, `fx`, `export`, `onnx`, `hub`, `distributed`** are left out.
* **`t.grad_fn`** has PyTorch's names where an op is one op in both; what is composed differently is named differently.
* A name that is not here raises AttributeError and says whether PyTorch has it; a misspelt one names what is meant.
"""


def covered(space: str) -> tuple[list[str], list[str]]:
    """The names of one of PyTorch's namespaces that are here, and those that are not."""
    listed = left_out.names()[space]
    try:
        ours: Any = functools.reduce(getattr, space.split(".")[1:], chainrule)
    except AttributeError:
        return [], list(listed)
    here = [n for n in listed if _has(ours, n)]
    return here, [n for n in listed if n not in set(here)]


def _has(owner: Any, name: str) -> bool:
    try:
        return hasattr(owner, name)
    except ImportError:
        return False


def page() -> str:
    """``docs/pytorch.md``."""
    lines = [
        "# What of PyTorch is here",
        "",
        "Written by `python -m chainrule.bridge.coverage`; the tests check that it is up to date. The lists are",
        "PyTorch's public names, interpreter internals and backend entry points left aside.",
        "",
        "| namespace | PyTorch's names | here |",
        "|---|---:|---:|",
    ]
    missing: list[str] = []
    for space in left_out.names():
        here, absent = covered(space)
        lines.append(f"| `{space}` | {len(here) + len(absent)} | {len(here)} |")
        groups: dict[str, list[str]] = {}
        for name in absent:
            groups.setdefault(left_out.reason(name) or "others", []).append(name)
        if absent:
            missing += ["", f"### `{space}`", ""]
        for why in sorted(groups, key=lambda w: (w == "others", w)):
            missing.append(f"* {why}: {', '.join(f'`{n}`' for n in groups[why])}")
    return "\n".join([*lines, "", "## What differs", "", _DIFFERS, "## What is left out", *missing[0:]]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
