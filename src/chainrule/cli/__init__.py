"""The command line. Each command lives in its own file and is imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from ..errors import ChainruleError

__all__ = ["main"]

_COMMANDS = {
    "train": ("train_cmd", "train_command", "Train a network on a bundled set, a CSV or an NPZ file."),
    "predict": ("predict_cmd", "predict_command", "Predict with the network of a run."),
    "diagnose": ("diagnose_cmd", "diagnose_command", "Say why a training script does not train, and which cure works."),
    "demo": ("demo_cmd", "demo_command", "Show an illness of deep networks and its cure, side by side."),
    "explain": ("explain_cmd", "explain_command", "Run a script and explain a derivative of its loss."),
    "check": ("check_cmd", "check_command", "Check a gradient; say which mistake it is when it is wrong."),
    "run": ("run_cmd", "run_command", "Run a PyTorch script with chainrule in torch's place."),
    "info": ("info_cmd", "info_command", "Say what runs here: versions, BLAS, threads."),
}
"""name → (file, function, one line)."""


class _Lazy(click.Group):
    """Lists all commands, imports the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        file, function, _ = _COMMANDS[cmd_name]
        return getattr(importlib.import_module(f".{file}", __name__), function)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        # Whatever the library raises on purpose is one sentence for the person at the terminal, never a traceback.
        try:
            return super().invoke(ctx)
        except ChainruleError as error:
            click.echo(f"chainrule: {error}", err=True)
            ctx.exit(2)
        except BrokenPipeError:  # the reader of our output went away: nothing is left to say
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)
        except OSError as error:  # a full disk, a folder that cannot be written
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"chainrule: {where}{error.strerror or error}", err=True)
            ctx.exit(2)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chainrule")
def main() -> None:
    """chainrule: backpropagation that you can see, prove and run fast."""
