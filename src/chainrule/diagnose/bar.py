"""A progress bar that appears only when there is somebody to see it and something to wait for."""

from __future__ import annotations

import sys
import time
from typing import Any

__all__ = ["Bar"]


class Bar:
    """``with Bar() as bar: bar.tell("what", 0.3)``; on standard error, after a second."""

    def __init__(self, show: bool | None = None) -> None:
        self.show = sys.stderr.isatty() if show is None else show
        self.start = time.perf_counter()
        self.progress: Any = None
        self.task: Any = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def tell(self, text: str, part: float) -> None:
        """Say what is being done, and how much of the whole is done."""
        if not self.show:
            return
        if self.progress is None:
            if time.perf_counter() - self.start < 1.0:
                return
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self.progress = Progress(
                TextColumn("diagnose"),
                BarColumn(bar_width=24),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
                transient=True,
            )
            self.progress.start()
            self.task = self.progress.add_task(text, total=1.0)
        self.progress.update(self.task, completed=part, description=text)
