"""The picture: every peer's time over ours, on a logarithmic axis with 1 marked; the grid as a chart of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import peers, report

__all__ = ["draw"]

# Okabe and Ito's palette, and a marker each: told apart without colour, too.
_LOOKS = {
    "torch": ("#D55E00", "o"), "torch.compile": ("#CC79A7", "s"), "jax.jit": ("#0072B2", "D"),
    "tinygrad": ("#009E73", "^"), "sklearn": ("#E69F00", "v"), "numpy": ("#56B4E9", "P"), "eager": ("#999999", "x"),
}  # fmt: skip


def draw(rows: list[report.Row], target: Path) -> None:
    """One panel for each thread count and kind of table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels: list[tuple[str, list[report.Row], int]] = []
    for threads in sorted({row["threads"] for row in rows}):
        here = [row for row in rows if row["threads"] == threads and any(row["ratios"].values())]
        grid = [row for row in here if row["key"].startswith("grid-")]
        plain = [row for row in here if row not in grid]
        panels += [(kind, part, threads) for kind, part in (("steps", plain), ("grid", grid)) if part]
    if not panels:
        return
    heights = [0.32 * len(part) + 1.3 if kind == "steps" else 3.6 for kind, part, _ in panels]
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "chainrule"}
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            len(panels), 1, figsize=(9, sum(heights) + 0.3), height_ratios=heights, squeeze=False, layout="constrained"
        )
        for (kind, part, threads), axis in zip(panels, axes[:, 0], strict=True):
            (_steps if kind == "steps" else _grid)(axis, part, threads)
        options = {"metadata": {"Date": None}} if target.suffix == ".svg" else {"dpi": 160}
        figure.savefig(target, **options)
        plt.close(figure)


def _steps(axis: Any, rows: list[report.Row], threads: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    seen: list[str] = []
    goals = False
    for y, row in enumerate(rows):
        ours = next(iter(row["ratios"]))
        for library, r in row["ratios"][ours].items():
            colour, marker = _LOOKS[library]
            seen += [library] if library not in seen else []
            axis.plot([r["low"], r["high"]], [y, y], color=colour, lw=1.5, alpha=0.5, solid_capstyle="butt", zorder=2)
            axis.plot(
                r["median"],
                y,
                marker,
                color=colour,
                ms=5.5,
                mec="white" if marker != "x" else colour,
                mew=0.6,
                zorder=3,
            )
        aim = row["goals"].get(ours)
        if aim is not None:
            goals = True
            axis.plot([aim, aim], [y - 0.38, y + 0.38], color="black", lw=1.4, zorder=1.5)
    axis.set_xscale("log")
    left, right = axis.get_xlim()
    left, right = min(left, 0.5), max(right, 2.0)
    axis.set_xlim(left, right)
    axis.axvspan(left, 1, color="#000000", alpha=0.05, lw=0, zorder=0)
    axis.axvline(1, color="black", lw=1.2, zorder=1)
    axis.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="x", which="major", color="#dddddd", lw=0.6, zorder=0)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_yticks(range(len(rows)), [report.title(row) for row in rows])
    axis.tick_params(axis="y", length=0)
    axis.set_axisbelow(True)
    axis.set_xlabel("peer's time ÷ chainrule.compile's, logarithmic (bars: quartiles; grey: the peer is faster)")
    axis.set_title(f"One step, {threads} thread{'s' if threads > 1 else ''}", loc="left", fontweight="bold", pad=22)
    order = [p for p in peers.PEERS if p in seen]
    handles = [Line2D([], [], ls="", color=_LOOKS[p][0], marker=_LOOKS[p][1], ms=5.5, label=p) for p in order]
    if goals:
        handles.append(Line2D([], [], ls="", color="black", marker="|", ms=10, mew=1.4, label="goal"))
    axis.legend(handles=handles, ncols=len(handles), frameon=False, loc="lower left", bbox_to_anchor=(-0.01, 1),
                fontsize=8, handletextpad=0.2, columnspacing=1.0, borderaxespad=0.2)  # fmt: skip


def _grid(axis: Any, rows: list[report.Row], threads: int) -> None:
    import math

    import numpy as np
    from matplotlib.colors import TwoSlopeNorm

    places = {row["key"]: tuple(map(int, row["key"].split("-")[1:])) for row in rows}
    widths, batches = sorted({w for w, _ in places.values()}), sorted({b for _, b in places.values()})
    table = np.full((len(widths), len(batches)), np.nan)
    for row in rows:
        ours = next(iter(row["ratios"]))
        best = report.best_peer(row, ours)
        i, j = widths.index(places[row["key"]][0]), batches.index(places[row["key"]][1])
        if best is not None:
            ratio = row["ratios"][ours][best]["median"]
            table[i, j] = math.log2(ratio)
            dark = abs(table[i, j]) > 1.6
            axis.text(
                j, i, f"{ratio:.2f}\n{best}", ha="center", va="center", color="white" if dark else "black", fontsize=8
            )
    axis.imshow(table, cmap="PuOr", norm=TwoSlopeNorm(0, -3, 3), aspect="auto")
    axis.set_xticks(range(len(batches)), [f"batch {b}" for b in batches])
    axis.set_yticks(range(len(widths)), [f"width {w}" for w in widths])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(
        f"3-layer MLP, SGD, {threads} thread{'s' if threads > 1 else ''}: best peer ÷ ours",
        loc="left", fontweight="bold",
    )  # fmt: skip
