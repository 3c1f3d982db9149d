"""``chainrule run``: a PyTorch script, unmodified, with chainrule in torch's place."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import click

from ..errors import UsageError

__all__ = ["run_command"]


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("script", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_command(script: Path, arguments: tuple[str, ...]) -> None:
    """Run SCRIPT with ARGUMENTS; where it says `import torch` it gets chainrule.

    Everything else is as with `python SCRIPT`. What the script itself raises is shown as Python shows it.
    """
    from ..bridge.alias import install

    if script.is_dir():
        raise UsageError(f"{script} is a folder: name the script to run")
    try:
        script.open("rb").close()
    except OSError as error:
        raise UsageError(f"{script}: cannot be read ({error.strerror})") from None
    install()
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except Exception:
        # The script's own error: its traceback, without the frames of this command.
        import traceback

        kind, value, trace = sys.exc_info()
        while trace is not None and trace.tb_frame.f_code.co_filename != str(script):
            trace = trace.tb_next
        traceback.print_exception(kind, value, trace)
        sys.exit(1)
