"""``chainrule diagnose script.py``: why a training script does not train, and which cure works."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["diagnose_command"]


@click.command("diagnose", context_settings={"ignore_unknown_options": True})
@click.argument("script", type=click.Path(path_type=Path))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--steps", type=click.IntRange(1), default=12, show_default=True, help="Optimizer steps to watch.")
@click.option("--no-cures", is_flag=True, help="Do not try cures.")
@click.option("--picture", is_flag=True, help="Also draw the gradient flow.")
@click.option(
    "--save", type=click.Path(path_type=Path), metavar="FILE", help="Write the diagnosis to FILE (.svg, .json or .txt)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, nothing else.")
def diagnose_command(
    script: Path, args: tuple[str, ...], steps: int, no_cures: bool, picture: bool, save: Path | None, as_json: bool
) -> None:
    """Run SCRIPT (with ARGS) for a few training steps, watch it, and say why its network does not learn.

    The script is ordinary code written with chainrule; what it prints goes to standard error. Exit status 1 when
    something was found.
    """
    import contextlib
    import sys

    from ..diagnose.bar import Bar
    from ..diagnose.script import diagnose_script

    with Bar(False if as_json else None) as bar, contextlib.redirect_stdout(sys.stderr):
        found = diagnose_script(script, args, steps=steps, cures=not no_cures, progress=bar.tell)
    click.echo(found.to_json() if as_json else str(found))
    if picture and not as_json:
        click.echo("\n" + found.picture())
    if save is not None:
        found.save(save)
    if not found.healthy:
        click.get_current_context().exit(1)
