"""``chainrule check FILE.py:NAME``: is this gradient right? Exit code 0 when it is, 1 when it is wrong, 2
for bad input.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError

__all__ = ["check_command"]

_POINTS = ("check_inputs", "example_inputs", "inputs", "point", "params")
_SHAPES = ((3, 4), (4,), (), (4, 4), (2, 3, 4), (2, 3, 8, 8))


@click.command("check")
@click.argument("target")
@click.option(
    "--grad",
    "grad",
    metavar="NAME",
    help="The gradient written by hand: a function in the same file (or FILE.py:NAME).",
)
@click.option(
    "--inputs", "point", metavar="NAME", help="The point: a variable in the file, or Python numbers like '[1, 2, 3]'."
)
@click.option(
    "--shape", "shapes", multiple=True, metavar="3,4", help="Shape of a random input; repeat it for several inputs."
)
@click.option("--full", is_flag=True, help="Check every entry.")
@click.option("--order", type=click.IntRange(1, 2), default=1, show_default=True, help="2: second derivatives too.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random inputs and of the sample.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def check_command(
    target: str,
    grad: str | None,
    point: str | None,
    shapes: tuple[str, ...],
    full: bool,
    order: int,
    seed: int,
    as_json: bool,
) -> None:
    """Check a gradient; say which mistake it is when it is wrong.

    TARGET is FILE.py:NAME or package.module:NAME: a function, an nn.Module (class or instance) or an autograd.Function.

    Where the file says `import torch` it gets chainrule, as with `chainrule run`. PyTorch's own gradients are checked
    from Python: chainrule.check(function, inputs).

    Without --inputs or --shape the file's own check_inputs (example_inputs, inputs, point, params) are used, and
    otherwise random arrays of a shape that fits.
    """
    from ..bridge.alias import as_torch

    with as_torch():
        report = _checked(target, grad, point, shapes, full, order, seed)
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    else:
        from rich.console import Console

        Console(highlight=False, soft_wrap=True).print(report)
    sys.exit(0 if report.ok else 1)


def _checked(
    target: str, grad: str | None, point: str | None, shapes: tuple[str, ...], full: bool, order: int, seed: int
) -> Any:
    """The report on what TARGET names."""
    from ..check import check

    module, name = _load(target)
    subject = _find(module, name)
    function = None if grad is None else _find(*_load(grad)) if ":" in grad else _find(module, grad)
    if isinstance(subject, type) and not hasattr(subject, "backward"):
        subject = _instance(subject)
    report: Any = None
    failure: Exception | None = None
    for inputs, said in _points(module, subject, point, shapes, seed):
        try:
            report = check(
                subject,
                inputs,
                function,
                order=order,
                full=full,
                seed=seed,
                cotangent="random" if function is None else None,
            )
        except UsageError as error:
            failure = error
            if said:
                raise
            continue
        break
    if report is None:
        raise UsageError(
            f"{name} could not be called with random inputs ({failure}). Say where to check it: "
            f"--shape 3,4 for each input, "
            f"or --inputs NAME, or define check_inputs in the file."
        )
    return report


def _load(target: str) -> tuple[Any, str]:
    path, _, name = target.rpartition(":")
    if not path or not name:
        raise UsageError(f"TARGET must be FILE.py:NAME or package.module:NAME, not {target!r}.")
    sys.path.insert(0, os.getcwd())
    if not path.endswith(".py"):
        try:
            return importlib.import_module(path), name
        except ModuleNotFoundError as error:
            raise UsageError(f"No module {path!r} ({error}).") from error
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"No file {path!r}.")
    sys.path.insert(0, str(file.resolve().parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path} could not be imported: {type(error).__name__}: {error}") from error
    return module, name


def _find(module: Any, name: str) -> Any:
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, [n for n in vars(module) if not n.startswith("_")], 3)
            hint = f" Did you mean {', '.join(near)}?" if near else ""
            raise UsageError(f"{getattr(module, '__file__', module.__name__)} has no {name!r}.{hint}")
        found = getattr(found, part)
    return found


def _instance(cls: type) -> Any:
    try:
        return cls()
    except TypeError as error:
        raise UsageError(
            f"{cls.__name__} needs arguments ({error}): make an instance in the file and name that."
        ) from error


def _points(
    module: Any, subject: Any, point: str | None, shapes: tuple[str, ...], seed: int
) -> Iterator[tuple[Any, bool]]:
    """Points to try, and whether the user asked for this one."""
    import numpy as np

    if point is not None:
        if hasattr(module, point):
            yield getattr(module, point), True
            return
        try:
            yield ast.literal_eval(point), True
        except (ValueError, SyntaxError):
            raise UsageError(f"--inputs: {point!r} is neither a variable of the file nor numbers.") from None
        return
    rng = np.random.default_rng(seed)
    if shapes:
        arrays = tuple(rng.normal(size=_shape(s)) for s in shapes)
        yield (arrays[0] if len(arrays) == 1 else arrays), True
        return
    for name in _POINTS:
        for owner in (subject, module):
            value = getattr(owner, name, None)
            if value is not None and not callable(value):
                yield value, True
                return
    count = _inputs_of(subject)
    if hasattr(subject, "parameters") and count == 0:
        yield (), False
    for shape in _SHAPES:
        arrays = tuple(rng.normal(size=shape) for _ in range(count))
        yield (arrays[0] if count == 1 else arrays), False


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in text.replace("x", ",").split(",") if n.strip())
    except ValueError:
        raise UsageError(f"--shape: {text!r} is no shape; write 3,4.") from None


def _inputs_of(subject: Any) -> int:
    import inspect

    function = subject.forward if hasattr(subject, "forward") else subject
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    required = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    if isinstance(subject, type) and required and required[0].name in ("ctx", "self"):
        required = required[1:]
    return len(required)
