"""Measure and print the table.

    python -m benchmarks.training                        # workloads a … h with SGD and Adam
    python -m benchmarks.training --only a,b,c           # some of them
    python -m benchmarks.training --grid                 # 3-layer MLP, widths × batches
    python -m benchmarks.training --threads 2 --peers torch,jax.jit

Needs the ``parity`` and ``bench`` extras (torch, jax). The libraries take turns in short blocks.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from ..harness import Worker
from .workloads import WORKLOADS, workload


def turns(workers: list[Worker], name: str, rounds: int, seconds: float, check: int) -> dict[str, Any]:
    """Short blocks of steps in turn. On a machine with other work the quietest block of each library says most, so
    both the quietest and the median of the ratios are given."""
    first, losses, steps, times = {}, {}, {}, {w.library: [] for w in workers}  # type: ignore[var-annotated]
    for w in workers:
        answer = w.ask(do="prepare", workload=name, check=check)
        losses[w.library], first[w.library] = answer["losses"], answer["first_step"]
        w.ask(do="block", steps=5)
        probe = min(w.ask(do="block", steps=3)["seconds"] / 3 for _ in range(3))
        steps[w.library] = max(1, int(seconds / probe))
    for i in range(rounds):
        for w in workers if i % 2 == 0 else workers[::-1]:
            n = steps[w.library]
            times[w.library].append(w.ask(do="block", steps=n)["seconds"] / n)
    return {"first": first, "losses": losses, "times": times}


def run(names: list[str], peers: list[str], threads: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    everybody = ["chainrule", *peers]
    print(f"{threads} thread(s); µs per training step, quietest of {rounds} blocks taken in turn.")
    print("ratio: best peer / ours, of the quietest blocks (and the median over the blocks);")
    print("losses: largest relative difference from torch over 50 steps; cold: seconds to the first step, in order")
    head = "".join(f"{p:>13s}" for p in everybody)
    print(f"{'workload':56s}{head}{'ratio':>8s}{'(median)':>10s}{'losses':>9s}  cold", flush=True)
    environment = {"CHAINRULE_CACHE": "", "JAX_PLATFORMS": "cpu"}
    workers = [Worker(p, "benchmarks.training.workloads", threads, environment) for p in everybody]
    for name in names:
        w, optimizer = workload(name)
        row: dict[str, Any] = {"workload": f"{w.title}, {optimizer}"}
        rows.append(row)
        try:
            result = turns(workers, name, rounds, seconds, 50)
        except RuntimeError as error:
            row["error"] = str(error)
            print(f"{row['workload']:56s}  {str(error).splitlines()[0][:150]}", flush=True)
            for worker in workers:
                worker.close()
            workers = [Worker(p, "benchmarks.training.workloads", threads, environment) for p in everybody]
            continue
        times = result["times"]
        row["us"] = {p: min(times[p]) * 1e6 for p in everybody}
        row["median_us"] = {p: statistics.median(times[p]) * 1e6 for p in everybody}
        row["cold"] = result["first"]
        row["ratio"] = min(row["us"][p] for p in peers) / row["us"]["chainrule"]
        row["median_ratio"] = min(
            statistics.median(a / b for a, b in zip(times[p], times["chainrule"], strict=True)) for p in peers
        )
        reference = result["losses"]["torch" if "torch" in peers else peers[0]]
        row["difference"] = max(
            abs(a - b) / max(abs(b), 1e-8) for a, b in zip(result["losses"]["chainrule"], reference, strict=True)
        )
        cells = "".join(f"{row['us'][p]:13.1f}" for p in everybody)
        cold = " ".join(f"{row['cold'][p]:.2f}" for p in everybody)
        print(
            f"{row['workload']:56s}{cells}{row['ratio']:8.2f}{row['median_ratio']:10.2f}"
            f"{row['difference']:9.1e}  {cold}",
            flush=True,
        )
    for worker in workers:
        worker.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default=",".join(WORKLOADS))
    parser.add_argument("--optimizers", default="sgd,adam")
    parser.add_argument("--peers", default="torch,jax.jit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.005, help="length of a block")
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
