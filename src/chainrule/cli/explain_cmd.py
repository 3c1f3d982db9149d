"""``chainrule explain script.py "W1[0,1]"``: run a script and explain the last gradient it computed."""

from __future__ import annotations

import contextlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError

__all__ = ["explain_command"]


@click.command("explain")
@click.argument("script", type=click.Path(path_type=Path))
@click.argument("entry", required=False)
@click.option(
    "--loss", "loss_name", metavar="NAME", help="Explain this variable instead of the last scalar with backward()."
)
@click.option("--order", type=click.IntRange(1, 2), default=1, help="2: the second derivative.")
@click.option("--source", is_flag=True, help="Print the backward pass as a NumPy program.")
@click.option("--annotate", is_flag=True, help="Print the forward source with values and gradients.")
@click.option(
    "--draw",
    "picture",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the graph (.html, .svg, .mmd, .dot).",
)
@click.option("--step", is_flag=True, help="Walk the backward pass in the terminal.")
@click.option("--latex", is_flag=True, help="Print the explanation as LaTeX.")
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
def explain_command(
    script: Path, entry: str | None, loss_name: str | None, order: int, source: bool, annotate: bool,
    picture: Path | None, step: bool, latex: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run SCRIPT and explain the gradient of ENTRY, e.g. "W1[0,1]" or "fc1.weight[2,0]".

    The script is ordinary code, chainrule's or PyTorch's; what it prints goes to standard error. The last scalar on
    which backward() was called is explained. Without ENTRY: the largest entry of the leaf with the largest gradient.
    """
    from .. import explain as room

    if not script.is_file():
        raise UsageError(f"there is no file {script}")
    loss, variables = _run(script, loss_name)
    if source:
        click.echo(str(room.backward_source(loss, variables=variables)))
    if annotate:
        click.echo(room.annotate(loss, variables=variables).text(colour=sys.stdout.isatty()))
    if picture is not None:
        if picture.suffix not in (".html", ".svg", ".mmd", ".md", ".dot"):
            raise UsageError(f"--draw writes .html, .svg, .mmd or .dot, not {picture.suffix or picture.name!r}")
        room.draw(loss, picture, variables=variables)
        click.echo(f"drawn: {picture}", err=as_json)
    if step:
        _walk(room, loss, variables)
    elif not (source or annotate or picture is not None) or entry is not None:
        wrt: Any = entry
        if order == 2:
            wrt, at = _tensor(entry, variables)
            found = room.explain(loss, wrt, at, order=2, variables=variables)
        else:
            found = room.explain(loss, wrt, variables=variables)
        click.echo(
            json.dumps(found.to_dict(), ensure_ascii=False, indent=1) if as_json
            else found.to_latex() if latex else str(found)
        )  # fmt: skip


def _tensor(entry: str | None, variables: dict[str, Any]) -> tuple[Any, Any]:
    """The tensor and the index that ``W1[0,1]`` names."""
    import re

    m = re.fullmatch(r"\s*([\w.]+)\s*(?:\[([-\d\s,]*)\])?\s*", entry or "")
    if m is None or m.group(1).split(".")[0] not in variables:
        raise UsageError('--order 2 needs the variable to differentiate by, e.g. "x" or "W[0,1]"')
    found = variables[m.group(1).split(".")[0]]
    for part in m.group(1).split(".")[1:]:
        found = getattr(found, part)
    index = m.group(2)
    return found, None if not index else tuple(int(k) for k in index.replace(" ", "").strip(",").split(","))


# --- running the script --------------------------------------------------------------------------------------------


class _Last:
    """The last root of a backward pass, with the leaves' values as they were then, and the variables in sight."""

    def __init__(self) -> None:
        self.root: Any = None
        self.variables: dict[str, Any] = {}
        self.values: list[tuple[Any, Any]] = []


def _run(script: Path, loss_name: str | None) -> tuple[Any, dict[str, Any]]:
    from ..autograd import api
    from ..bridge.alias import as_torch
    from ..core.locate import user_frame
    from ..core.variable import Variable
    from ..graph.replay import reachable

    last = _Last()
    original = api.backward

    def backward(
        tensors: Any, grad_tensors: Any = None, retain_graph: Any = None, create_graph: bool = False, inputs: Any = None
    ) -> Any:
        roots = (tensors,) if isinstance(tensors, Variable) else tuple(tensors)
        root = roots[-1]
        if isinstance(root, Variable) and root._array.size == 1 and root._requires:
            frame = user_frame(sys._getframe(1))
            last.root = root
            last.variables = {} if frame is None else {**frame.f_globals, **frame.f_locals}
            leaves = {id(e): e for n in reachable(root) for e in n.edges if isinstance(e, Variable)}
            last.values = [(t, t._array.copy()) for t in leaves.values()]
            retain_graph = True  # the explanation reads the graph after the script has ended
        return original(tensors, grad_tensors, retain_graph, create_graph, inputs=inputs)

    argv = sys.argv
    sys.argv = [str(script)]
    sys.path.insert(0, str(script.parent.resolve()))
    api.backward = backward
    try:
        with contextlib.redirect_stdout(sys.stderr), as_torch():
            try:
                names = runpy.run_path(str(script), run_name="__main__")
            except SystemExit as leaving:
                if last.root is None:
                    raise UsageError(f"{script} ended with exit code {leaving.code} before any backward()") from None
                names = {}
            except UsageError:
                raise
            except Exception as error:
                lines = str(error).splitlines() or [""]
                raise UsageError(f"{script} fails: {type(error).__name__}: {lines[0]}") from error
    finally:
        api.backward = original
        sys.argv = argv
        sys.path.remove(str(script.parent.resolve()))
    if loss_name is not None:
        chosen = {**names, **last.variables}.get(loss_name)
        if not isinstance(chosen, Variable):
            known = ", ".join(sorted(k for k, v in names.items() if isinstance(v, Variable))[:20]) or "none"
            raise UsageError(f"{script} has no tensor called {loss_name}; its tensors are {known}")
        if chosen is not last.root:
            return chosen, names
    if last.root is None:
        raise UsageError(
            f"{script} never calls backward(), so there is no gradient to explain; "
            "call loss.backward(), or say --loss NAME"
        )
    from ..core import inplace

    for t, value in last.values:  # as it was when backward ran: an optimizer may have stepped since
        t._array[...] = value
        inplace.forget(t._array)
    return last.root, {**names, **last.variables}


# --- walking -------------------------------------------------------------------------------------------------------

_HELP = "n next · b back · j NAME jump to a variable · e ENTRY its formula · g gradients so far · q quit"


def _walk(room: Any, loss: Any, variables: dict[str, Any]) -> None:
    """The walker: one backward step on the screen at a time."""
    steps = room.backward_steps(loss, variables=variables)
    shown: list[Any] = []
    at = -1
    click.echo(f"{len(steps.replay.steps)} steps. {_HELP}")
    while True:
        try:
            line = click.prompt("step", default="n", show_default=False, prompt_suffix="> ").strip()
        except (click.Abort, EOFError):
            click.echo()
            return
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if command in ("q", "quit"):
            return
        if command in ("n", "next", ""):
            if at + 1 >= len(shown):
                following = next(steps, None)
                if following is None:
                    click.echo("That was the last step. The leaves' gradients:")
                    _gradients(steps)
                    continue
                shown.append(following)
            at += 1
            click.echo(str(shown[at]))
        elif command in ("b", "back"):
            at = max(0, at - 1)
            click.echo(str(shown[at]) if shown else "nothing has happened yet: n takes the first step")
        elif command in ("j", "jump"):
            found = next((k for k in range(at + 1, len(shown)) if _about(shown[k], rest)), None)
            while found is None:
                following = next(steps, None)
                if following is None:
                    break
                shown.append(following)
                if _about(following, rest):
                    found = len(shown) - 1
            if found is None:
                found = next((k for k in range(len(shown)) if _about(shown[k], rest)), None)
            if found is None:
                click.echo(f"no step is about {rest!r}")
            else:
                at = found
                click.echo(str(shown[at]))
        elif command in ("e", "entry"):
            from ..errors import ChainruleError

            try:
                click.echo(str(room.explain(loss, rest or None, variables=variables)))
            except ChainruleError as error:
                click.echo(str(error))
        elif command == "g":
            _gradients(steps)
        else:
            click.echo(_HELP)


def _about(step: Any, name: str) -> bool:
    return step.name == name or any(r.name == name for r in step.inputs)


def _gradients(steps: Any) -> None:
    import numpy as np

    for name, g in steps.gradients.items():
        body = (
            np.array2string(g, precision=6, separator=", ")
            if g.size <= 12
            else f"{g.shape} |·| = {np.linalg.norm(g):.6g}"
        )
        click.echo(f"    {name}: {body}")
