"""``chainrule info``: what runs here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
from typing import Any

import click

__all__ = ["info_command"]

_OPTIONAL = ("torch", "jax", "matplotlib", "mkl", "cupy", "mpi4py")


def _blas() -> list[dict[str, Any]]:
    """The BLAS libraries that NumPy and SciPy were built with."""
    import numpy as np

    found: Any = np.show_config(mode="dicts")
    blas = found.get("Build Dependencies", {}).get("blas", {})
    return [{"used by": "numpy", "name": blas.get("name", "?"), "version": blas.get("version", "?")}]


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@click.command("info")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info_command(as_json: bool) -> None:
    """Say what runs here: versions, BLAS, threads, optional packages."""
    from .. import __version__

    base = {name: _installed(name) for name in ("numpy", "scipy", "llvmlite", "click", "rich", "safetensors")}
    optional = {name: _installed(name) for name in _OPTIONAL}
    threads = {
        k: os.environ[k] for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if k in os.environ
    }
    facts: dict[str, Any] = {
        "chainrule": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads set": threads or "not set: BLAS uses all cores",
        "blas": _blas(),
        "packages": base,
        "optional": optional,
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    for key in ("chainrule", "python", "platform", "cores"):
        click.echo(f"{key:<10} {facts[key]}")
    shown = ", ".join(f"{k}={v}" for k, v in threads.items()) if threads else facts["threads set"]
    click.echo(f"{'threads':<10} {shown}")
    for entry in facts["blas"]:
        click.echo(f"{'blas':<10} {entry['name']} {entry['version']} ({entry['used by']})")
    for name, version in base.items():
        click.echo(f"{name:<10} {version or 'not installed'}")
    click.echo("optional   " + ", ".join(f"{n} {v}" if v else f"{n} (not installed)" for n, v in optional.items()))
