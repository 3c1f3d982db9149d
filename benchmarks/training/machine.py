"""What this machine can do at most: float32 matrix products and moving memory, with the threads of the run.

    python -m benchmarks.training.machine        # one JSON object

The matrix peak is the fastest product of large square matrices by the BLAS libraries at hand; chainrule's own loop of
independent fused multiply-adds (no memory at all) stands beside it as the upper bound.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["better", "limits", "measure"]

SIDES = (256, 1024)  # the smaller stays in a core's own caches, whatever neighbours do to the shared one


def limits(threads: int) -> dict[str, Any]:
    """The machine's limits, measured in a fresh process with this many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = dict(os.environ, **dict.fromkeys(names, str(threads)))
    done = subprocess.run(
        [sys.executable, "-m", __name__], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    found: dict[str, Any] = json.loads(done.stdout)
    found["threads"] = threads
    return better(found, found)


def better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The higher of two measurements of the same limits: other work on the machine only lowers them."""
    out = dict(one)
    for kind in ("products", "bytes"):
        out[kind] = {name: max(value, other[kind].get(name, 0.0)) for name, value in one[kind].items()}
    if one["fma"] and other["fma"]:
        out["fma"] = max(one["fma"], other["fma"])
    out["sgemm_by"], out["sgemm"] = max(out["products"].items(), key=lambda item: item[1])
    return out


def best(run: Callable[[], Any], seconds: float = 1.0) -> float:
    """The time of a call when nobody disturbs it: the third shortest, for a virtual machine's clock can jump."""
    run()
    seen: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(seen) < 3:
        start = time.perf_counter()
        run()
        seen.append(time.perf_counter() - start)
    return sorted(seen)[2]


def products() -> dict[str, float]:
    """Flops per second of sgemm, by BLAS: the faster of two sizes."""
    found = [products_of(side) for side in SIDES]
    return {name: max(f[name] for f in found) for name in found[0]}


def products_of(side: int) -> dict[str, float]:
    """Flops per second of a product of square matrices, by BLAS."""
    from scipy.linalg.blas import sgemm

    rng = np.random.default_rng(0)
    a, b = (np.asfortranarray(rng.normal(size=(side, side)).astype(np.float32)) for _ in range(2))
    c = np.empty((side, side), np.float32, order="F")
    runs: dict[str, Callable[[], Any]] = {
        "SciPy's BLAS": lambda: sgemm(1.0, a, b, 0.0, c, overwrite_c=1),
        "NumPy's BLAS": lambda: np.matmul(a.T, b.T, out=c.T),
    }
    mkl = _mkl()
    if mkl is not None:
        pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (a, b, c)]
        one, zero, n = ctypes.c_float(1), ctypes.c_float(0), side
        runs["oneMKL"] = lambda: mkl.cblas_sgemm(
            102, 111, 111, n, n, n, one, pointers[0], n, pointers[1], n, zero, pointers[2], n
        )
    return {name: 2 * side**3 / best(run) for name, run in runs.items()}


def _mkl() -> Any:
    places = [*(Path(sys.prefix) / "lib").glob("libmkl_rt.*"), *(Path(sys.prefix) / "Library/bin").glob("mkl_rt*.dll")]
    for place in [*map(str, places), ctypes.util.find_library("mkl_rt")]:
        if place:
            try:
                return ctypes.CDLL(place)
            except OSError:
                continue
    return None


def fma_peak() -> float | None:
    """Flops per second of chainrule's loop of independent fused multiply-adds, on one core."""
    try:
        from chainrule.compile.show import machine_peak
    except ImportError:
        return None
    return max(machine_peak() for _ in range(3))


def bandwidths() -> dict[str, float]:
    """Bytes per second of a copy (2 arrays) and of y ← a·x + y (3), for 4 MB arrays (cache) and 64 MB ones (memory)."""
    from scipy.linalg.blas import saxpy

    out: dict[str, float] = {}
    for label, n in (("4 MB", 1_000_000), ("64 MB", 16_000_000)):
        x, y = np.ones(n, np.float32), np.ones(n, np.float32)
        out[f"copy {label}"] = 8 * n / best(lambda x=x, y=y: np.copyto(y, x), 0.5)
        out[f"triad {label}"] = 12 * n / best(lambda x=x, y=y, n=n: saxpy(x, y, n, 1e-9), 0.5)
    return out


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def measure() -> dict[str, Any]:
    """All limits of this process."""
    return {
        "processor": processor(), "processors": os.cpu_count(), "products": products(), "fma": fma_peak(),
        "bytes": bandwidths(),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure()))
