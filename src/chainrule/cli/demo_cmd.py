"""``chainrule demo NAME``: an illness and its cure, trained side by side on the bundled digits."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["demo_command"]

_NAMES = ("vanishing", "exploding", "dead-relu", "saturation", "residual", "batchnorm", "clipping")


@click.command("demo")
@click.argument("name", type=click.Choice(_NAMES))
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Also write the picture to FILE (.svg).")
@click.option("--json", "as_json", is_flag=True, help="Print the measurements as JSON.")
def demo_command(name: str, save: Path | None, as_json: bool) -> None:
    """Train a small deep network with an illness and with its cure: one picture and three sentences."""
    from rich.console import Console

    from ..demo import run_demo
    from ..errors import UsageError

    console = Console(stderr=True, quiet=as_json)
    with console.status("…") as status:
        outcome = run_demo(name, tell=status.update)
    if save is not None:
        try:
            save.write_text(outcome.svg() + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{save}: cannot be written ({error.strerror})") from None
    if as_json:
        sides = {
            side.name: {"loss": side.losses[-1], "accuracy": side.accuracy, "flow": side.flow, "losses": side.losses}
            for side in (outcome.ill, outcome.cured)
        }
        click.echo(
            json.dumps({"demo": name, "sides": sides, "sentences": outcome.sentences, "seconds": outcome.seconds})
        )
        return
    click.echo(str(outcome))
    if save is not None:
        click.echo(f"\npicture: {save}")
