"""Measure and print the table.

    python -m benchmarks.training                        # workloads a … h with SGD and Adam
    python -m benchmarks.training --only a,b,c           # some of them
    python -m benchmarks.training --grid                 # 3-layer MLP, widths × batches
    python -m benchmarks.training --threads 2 --peers torch,jax.jit

Needs the ``parity`` and ``bench`` extras (torch, jax). Ratios are medians over blocks that ran next to each other.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from ..harness import Result, Worker, measure
from .workloads import WORKLOADS, workload


def run(names: list[str], peers: list[str], threads: int, blocks: int, seconds: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    print(f"{threads} thread(s); µs per training step (median); ratio: best peer's time / ours", flush=True)
    print(f"{'workload':58s}" + "".join(f"{p:>14s}" for p in ["chainrule", *peers]) + f"{'ratio':>8s}{'losses':>9s}  cold s")
    for name in names:
        w, optimizer = workload(name)
        environment = {
            "CHAINRULE_CACHE": "",
            "JAX_PLATFORMS": "cpu",
        }
        workers: list[Worker] = []
        row: dict[str, Any] = {"workload": f"{w.title}, {optimizer}"}
        try:
            for library in ["chainrule", *peers]:
                workers.append(Worker(library, "benchmarks.training.workloads", threads, environment))
            result: Result = measure(workers, name, "chainrule", blocks=blocks, seconds=seconds, check=50)
            row["us"] = {k: v * 1e6 for k, v in result.seconds.items()}
            row["ratios"] = result.ratios
            row["ratio"] = min(result.ratios[p] for p in peers)
            row["cold"] = {k: v["first_step"] for k, v in result.extra.items()}
            reference = result.losses["torch" if "torch" in peers else peers[0]]
            row["difference"] = max(
                abs(a - b) / max(abs(b), 1e-8) for a, b in zip(result.losses["chainrule"], reference, strict=True)
            )
            cells = "".join(f"{row['us'][p]:14.1f}" for p in ["chainrule", *peers])
            cold = " ".join(f"{row['cold'][p]:.2f}" for p in ["chainrule", *peers])
            print(f"{row['workload']:58s}{cells}{row['ratio']:8.2f}{row['difference']:9.1e}  {cold}", flush=True)
        except RuntimeError as error:
            row["error"] = str(error)
            print(f"{row['workload']:58s}  {str(error)[:200]}", flush=True)
        finally:
            for worker in workers:
                worker.close()
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default=",".join(WORKLOADS))
    parser.add_argument("--optimizers", default="sgd,adam")
    parser.add_argument("--peers", default="torch,jax.jit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    module = {"jax.jit": "jax", "torch": "torch", "torch.compile": "torch"}
    peers = [p for p in given.peers.split(",") if importlib.util.find_spec(module.get(p, "chainrule"))]
    optimizers = given.optimizers.split(",")
    if given.grid:
        names = [f"grid-{n}-{b}/sgd" for n in (16, 64, 256, 1024) for b in (1, 16, 128, 1024)]
    else:
        names = [f"{k}/{o}" for k in given.only.split(",") for o in optimizers]
    rows = run(names, peers, given.threads, given.blocks, given.seconds)
    ratios = [r["ratio"] for r in rows if "ratio" in r]
    if ratios:
        print(f"geometric mean of the ratios: {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}")
    if given.json:
        given.json.write_text(json.dumps({"python": sys.version, "cpus": os.cpu_count(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
