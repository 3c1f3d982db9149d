"""The command: ``python -m benchmarks.training``."""

from __future__ import annotations

import compileall
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from . import machine, peers, report
from .run import Settings, measure_row
from .workloads import FUNCTIONS, GRID, TRAINING

EPILOG = """\b
  python -m benchmarks.training                          training steps a … h, SGD and Adam, one thread
  python -m benchmarks.training --only a,b,c --quick     some of them, a first look
  python -m benchmarks.training --grid                   3-layer MLP, widths 16 … 1024 × batches 1 … 1024
  python -m benchmarks.training --functions              elementwise chain, softmax, layer norm, Hessian · vector
  python -m benchmarks.training --threads 1,2 --blas default,mkl --json out.json --plot out.svg
  python -m benchmarks.training --from out.json --markdown

What is measured, and how: benchmarks/README.md."""


def _list(known: Callable[[], set[str]] | None = None) -> Callable[..., list[str]]:
    def parse(_context: Any, parameter: Any, value: str) -> list[str]:
        items = [item.strip() for item in value.split(",") if item.strip()]
        unknown = [item for item in items if known is not None and item not in known()]
        if unknown and known is not None:
            raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(sorted(known()))}", param=parameter)
        if not items:
            raise click.BadParameter("names at least one", param=parameter)
        return items

    return parse


@click.command(epilog=EPILOG, context_settings={"max_content_width": 110})
@click.option(
    "--only",
    default=",".join(TRAINING),
    callback=_list(lambda: {*TRAINING, *FUNCTIONS, *GRID}),
    help="Workloads, by their letters and names.",
)
@click.option("--grid", is_flag=True, help="The grid of 3-layer MLPs instead (SGD).")
@click.option("--functions", is_flag=True, help="The functions instead: " + ", ".join(FUNCTIONS) + ".")
@click.option("--all", "everything", is_flag=True, help="Training steps, grid and functions.")
@click.option("--optimizers", default="sgd,adam", callback=_list(lambda: {"sgd", "adam"}), show_default=True)
@click.option(
    "--peers",
    "others",
    default=",".join(p for p in peers.PEERS if p != "eager"),
    callback=_list(lambda: {*peers.PEERS}),
    show_default=True,
    help="Also known: eager (chainrule's own).",
)
@click.option(
    "--threads",
    default="1",
    callback=_list(lambda: {str(n) for n in range(1, 257)}),
    show_default=True,
    help="Thread counts, each a table of its own.",
)
@click.option(
    "--blas",
    default="default",
    callback=_list(lambda: {"default", "openblas", "mkl", "own"}),
    show_default=True,
    help="BLAS of chainrule, each a column: default, openblas, mkl, own.",
)
@click.option(
    "--rounds", "--blocks", default=40, type=click.IntRange(2), show_default=True, help="Turns of each library."
)
@click.option("--seconds", default=0.01, type=click.FloatRange(1e-4), show_default=True, help="Length of a turn.")
@click.option(
    "--timeout",
    default=180.0,
    type=click.FloatRange(1),
    show_default=True,
    help="Seconds in which a library must have made its first steps of a workload.",
)
@click.option(
    "--quick", is_flag=True, help="A first look: 10 turns, no torch.compile, no tinygrad, no second cold start."
)
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here.")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show the figures of an earlier --json; measure nothing.",
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the ratios (.svg, .png).")
@click.option("--markdown", is_flag=True, help="Also print the table as Markdown.")  # fmt: skip
def main(**given: Any) -> None:
    """Whole training steps of chainrule.compile against other libraries, on this machine, taking turns."""
    if given["plot"] is not None:
        if given["plot"].suffix.lower() not in (".svg", ".png", ".pdf"):
            raise click.BadParameter("ends in .svg, .png or .pdf", param_hint="--plot")
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise click.ClickException("--plot needs matplotlib: pip install matplotlib") from None
    rows, limits, command = _saved(given["source"]) if given["source"] else _measured(given)
    if given["markdown"]:
        click.echo("\n" + report.markdown(rows, limits, command))
    if given["plot"] is not None and rows:
        from .plot import draw

        draw(rows, given["plot"])
        click.echo(f"wrote {given['plot']}")


def _saved(source: Path) -> tuple[list[Any], dict[int, Any], str]:
    try:
        content = json.loads(source.read_text())
        rows, limits = content["rows"], {int(t): limit for t, limit in content["machine"].items()}
        _show(rows, limits)
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{source} was not written by --json: {error!r}") from None
    return rows, limits, content["command"]


def _show(rows: list[Any], limits: dict[int, Any]) -> None:
    click.echo(report.machine_lines(limits))
    seen = {p for row in rows for p in [*row["us"], *row["failed"]]}
    ours = sorted(p for p in seen if peers.ours(p))
    for threads in sorted({row["threads"] for row in rows}):
        libraries = [*ours, *(p for p in peers.PEERS if p in seen)]
        here = [row for row in rows if row["threads"] == threads]
        click.echo(f"\n{threads} thread(s)\n{report.heading(libraries)}")
        for row in here:
            click.echo(report.line(row, libraries, limits))
        click.echo(f"{report.footer(here, libraries)}\n\n{report.second_table(here, libraries)}")


def _measured(given: dict[str, Any]) -> tuple[list[Any], dict[int, Any], str]:
    names = _names(given)
    ours = ["chainrule" if b == "default" else f"chainrule:{b}" for b in given["blas"]]
    settings = Settings(given["rounds"], given["seconds"], timeout=given["timeout"], warm_cache=not given["grid"])
    others: list[str] = given["others"]
    if given["quick"]:
        settings = Settings(10, given["seconds"], 3.0, given["timeout"], warm_cache=False)
        others = [p for p in others if p not in ("torch.compile", "tinygrad")]
    for library in list(others):
        why = peers.missing(library)
        if why:
            click.echo(f"left out: {library}: {why}")
            others.remove(library)
    for package in ("chainrule", "benchmarks"):  # as pip does for what it installs; the peers' bytecode is there
        for folder in importlib.import_module(package).__path__:
            compileall.compile_dir(folder, quiet=2)
    libraries = [*ours, *others]
    rows: list[Any] = []
    limits: dict[int, Any] = {}
    thread_counts = [int(t) for t in given["threads"]]
    with _progress(len(names) * len(thread_counts)) as (say, show):
        for threads in thread_counts:
            say("what the machine can do")
            limits[threads] = machine.limits(threads)
        show(report.machine_lines(limits))
        for threads in thread_counts:
            show(f"\n{threads} thread(s); turns of {1e3 * settings.seconds:g} ms, {settings.rounds} of them")
            show(report.heading(libraries))
            start = len(rows)
            for name in names:
                begin = time.perf_counter()
                row = measure_row(name, libraries, threads, settings, lambda text, name=name: say(f"{name}: {text}"))
                row["took"] = time.perf_counter() - begin
                rows.append(row)
                show(report.line(row, libraries, limits), done=1)
                if given["target"]:
                    _keep(given["target"], rows, limits)
            limits[threads] = machine.better(limits[threads], machine.limits(threads))
            here = rows[start:]
            if given["target"]:
                _keep(given["target"], rows, limits)
            show(f"{report.footer(here, libraries)}\n\n{report.second_table(here, libraries)}")
    return rows, limits, _command()


def _names(given: dict[str, Any]) -> list[str]:
    if given["everything"]:
        only = [*TRAINING, *GRID, *FUNCTIONS]
    elif given["grid"] or given["functions"]:
        only = [*(GRID if given["grid"] else ()), *(FUNCTIONS if given["functions"] else ())]
    else:
        only = given["only"]
    names: list[str] = []
    for key in only:
        if key in FUNCTIONS:
            names.append(key)
        else:
            names += [f"{key}/{o}" for o in (["sgd"] if key.startswith("grid-") else given["optimizers"])]
    return names


def _command() -> str:
    return " ".join(["python -m benchmarks.training", *sys.argv[1:]])


def _keep(target: Path, rows: list[Any], limits: dict[int, Any]) -> None:
    about = {"python": platform.python_version(), "command": _command(), "machine": limits}
    try:
        target.write_text(json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise click.ClickException(f"cannot write {target}: {error}") from None


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[str], None], Callable[..., None]]]:
    """``say`` (what is going on now) and ``show`` (a result, to stay). Off a terminal only results appear."""
    if not sys.stdout.isatty():
        yield (lambda _text: None), lambda text, done=0: click.echo(text)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=total)

        def show(text: str, done: int = 0) -> None:
            bar.console.out(text, highlight=False)
            bar.advance(task, done)

        yield (lambda text: bar.update(task, description=text)), show


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.training")
