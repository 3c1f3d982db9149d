"""The rows as text for the terminal and as Markdown for a README."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import peers

__all__ = [
    "Row",
    "best_peer",
    "footer",
    "geometric_mean",
    "heading",
    "line",
    "machine_lines",
    "markdown",
    "second_table",
]

Row = dict[str, Any]
TITLE = 53
OPTIMIZERS = {"sgd": "SGD", "adam": "Adam"}


def best_peer(row: Row, ours: str) -> str | None:
    """The peer with the smallest time; chainrule's own eager mode is shown but is no peer."""
    ratios = {p: r for p, r in row.get("ratios", {}).get(ours, {}).items() if p != "eager"}
    return min(ratios, key=lambda p: ratios[p]["median"]) if ratios else None


def title(row: Row) -> str:
    label = f"({row['key']}) " if len(row["key"]) == 1 else ""
    return f"{label}{row['title']}" + (f", {OPTIMIZERS[row['optimizer']]}" if row["optimizer"] else "")


def us(t: float | None) -> str:
    if t is None:
        return "–"
    return f"{t:.1f}" if t < 99.95 else f"{t:,.0f}"


def share(row: Row, ours: str, limits: dict[int, Any]) -> str:
    """The step against the machine: its matrix products against the matrix peak, or its bytes per second."""
    t = row["us"].get(ours)
    if t is None:
        return ""
    if row["moved"]:
        return f"{row['moved'] / t / 1e3:.0f} GB/s"
    limit = limits.get(row["threads"])
    if not limit or not row["peak_flops"]:
        return ""
    return f"{row['peak_flops'] / (t * 1e-6) / limit['sgemm']:.0%}"


def heading(libraries: Sequence[str]) -> str:
    cells = "".join(f"{p:>14s}" for p in libraries)
    ratio = f"{'best peer ÷ ours (quartiles)':30s}{'quiet':>7s}{'goal':>9s}  {'peak':>8s}"
    return f"{'µs per step, medians':{TITLE}s}{cells}  {ratio}"


def line(row: Row, libraries: Sequence[str], limits: dict[int, Any]) -> str:
    """A row of the main table, one line for each column of ours, and what went wrong below it."""
    lines: list[str] = []
    for ours in [p for p in libraries if peers.ours(p)] or [""]:
        best = best_peer(row, ours)
        marks = {p: "~" if row["by_cpu"].get(p) else "" for p in libraries}
        times = ["failed" if p in row["failed"] else marks[p] + us(row["us"].get(p)) for p in libraries]
        cells = "".join(f"{text:>14s}" for text in times)
        text = f"{title(row):{TITLE}s}{cells}" if not lines else f"{f'    as {ours}':{TITLE}s}{'':{len(cells)}s}"
        if best is not None:
            r = row["ratios"][ours][best]
            mark = "~" if r["by_cpu"] else ""
            ratio = f"{mark}{r['median']:.2f}"
            text += f"  {ratio:>7s} ({r['low']:.2f}–{r['high']:.2f}) {best}".ljust(32) + f"{r['quiet']:7.2f}"
            aim = row["goals"].get(ours)
            text += f"{'' if aim is None else f'≥ {aim:g} ' + ('✓' if r['median'] >= aim else '✗'):>9s}"
            text += f"  {share(row, ours, limits):>8s}"
        lines.append(text.rstrip())
    for library, why in row["failed"].items():
        lines.append(f"    {library}: {why}")
    for library, d in row["differs"].items():
        if not d <= row["tolerances"][library]:
            lines.append(
                f"    {library}: DIFFERS from {row['reference']} by {d:.1e} over {row['checked'][library]} steps"
            )
    return "\n".join(lines)


def geometric_mean(rows: Sequence[Row], ours: str) -> float | None:
    """Of the best peers' ratios."""
    seen = [row["ratios"][ours][best]["median"] for row in rows if (best := best_peer(row, ours)) is not None]
    return math.exp(sum(map(math.log, seen)) / len(seen)) if seen else None


def footer(rows: Sequence[Row], libraries: Sequence[str]) -> str:
    """Agreement of the losses, means and goals."""
    lines: list[str] = []
    if any(any(row["by_cpu"].values()) for row in rows):
        lines.append("~ processor time: the machine was too busy for undisturbed turns.")
    seen = [(d, p, row) for row in rows for p, d in row["differs"].items()]
    if seen:
        # What is judged by another tolerance than 1e-4 (scikit-learn's Adam is another formula) is not in this line.
        d, p, row = max((s for s in seen if s[2]["tolerances"][s[1]] <= 1e-4), key=lambda s: s[0])
        verdict = "agree" if all(d <= row["tolerances"][p] for d, p, row in seen) else "DO NOT ALL AGREE"
        lines.append(f"Losses of the first steps {verdict}: largest relative difference {d:.1e} ({p}, {title(row)}).")
    for ours in [p for p in libraries if peers.ours(p)]:
        mean = geometric_mean(rows, ours)
        judged = [
            row["ratios"][ours][best]["median"] >= row["goals"][ours]
            for row in rows
            if (best := best_peer(row, ours)) is not None and row["goals"].get(ours) is not None
        ]
        if mean is not None:
            goals = f"; goals met: {sum(judged)} of {len(judged)}" if judged else ""
            lines.append(f"{ours}: geometric mean of the ratios {mean:.2f}{goals}.")
    return "\n".join(lines)


def second_table(rows: Sequence[Row], libraries: Sequence[str]) -> str:
    """Seconds to the first step and memory."""
    lines = [
        "Seconds from the start of a fresh process to the end of the first step; in brackets without the import; no",
        "caches on disk (chainrule also after →: with its object code on disk). Below: peak memory of the process; in",
        "brackets what of it came after the import.",
        f"{'':{TITLE}s}" + "".join(f"{p:>24s}" for p in libraries),
    ]
    for row in rows:
        times, memory = "", ""
        for p in libraries:
            cold = row["cold"].get(p)
            text = ""
            if cold:
                text = f"{cold['process']:.1f} ({cold['first_step']:.2f})"
                if "first_step_cached" in cold:
                    text += f"→{cold['process_cached']:.1f} ({cold['first_step_cached']:.2f})"
            times += f"{text:>24s}"
            memory += f"{_megabytes(row, p):>24s}"
        lines += [f"{title(row):{TITLE}s}{times}".rstrip(), f"{'':{TITLE}s}{memory}".rstrip()]
    return "\n".join(lines)


def _megabytes(row: Row, library: str) -> str:
    if library not in row["memory"]:
        return ""
    return f"{row['peak'][library] / 1e6:.0f} MB ({row['memory'][library] / 1e6:.0f})"


def machine_lines(limits: dict[int, Any]) -> str:
    """The limits that shares refer to."""
    lines: list[str] = []
    for threads, limit in limits.items():
        if not lines:
            lines.append(f"{limit['processor']}, {limit['processors']} processors")
        found = ", ".join(f"{name} {f / 1e9:.0f}" for name, f in limit["products"].items())
        loop = f"; chainrule's loop of fused multiply-adds, one core: {limit['fma'] / 1e9:.0f}" if limit["fma"] else ""
        lines.append(
            f"{threads} thread(s): matrix peak {limit['sgemm'] / 1e9:.0f} Gflop/s by {limit['sgemm_by']} "
            f"({found}{loop})"
        )
        moved = ", ".join(f"{name} {b / 1e9:.0f}" for name, b in limit["bytes"].items())
        lines.append(f"{'':13s}memory, GB/s: {moved}")
    return "\n".join(lines)


def markdown(rows: Sequence[Row], limits: dict[int, Any], command: str) -> str:
    """A table for a README: one line for each workload, with the command that prints it."""
    seen = {p for row in rows for p in [*row["us"], *row["failed"]]}
    libraries = [p for p in ["chainrule", *sorted(p for p in seen if ":" in p), *peers.PEERS] if p in seen]
    lines: list[str] = []
    for threads in sorted({row["threads"] for row in rows}):
        here = [row for row in rows if row["threads"] == threads]
        processor = limits.get(threads, {}).get("processor", "")
        lines.append(
            f"One step in microseconds, {threads} thread{'s' if threads > 1 else ''}, {processor}; `{command}`:\n"
        )
        lines.append("| step | " + " | ".join(libraries) + " | best peer ÷ ours |")
        lines.append("|---|" + "---:|" * (len(libraries) + 1))
        for row in here:
            ours = next((p for p in libraries if peers.ours(p) and p in row["ratios"]), "")
            best = best_peer(row, ours) if ours else None
            times = " | ".join(("~" if row["by_cpu"].get(p) else "") + us(row["us"].get(p)) for p in libraries)
            r = row["ratios"][ours][best] if best else None
            ratio = f"**{r['median']:.2f}** ({r['low']:.2f}–{r['high']:.2f}) {best}" if r else "–"
            lines.append(f"| {title(row)} | {times} | {ratio} |")
        lines.append("")
        if any(any(row["by_cpu"].values()) for row in here):
            lines.append("~ processor time: the machine was too busy for undisturbed turns.\n")
    return "\n".join(lines)
