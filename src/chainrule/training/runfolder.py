"""The folder of a run: what was asked (config.json), what happened (metrics.jsonl), and the weights.

    config.json        resolved settings, the data's schema, versions
    metrics.jsonl      one line an epoch
    last.safetensors   weights, optimizer, schedule, random state, position: everything that resuming needs
    best.safetensors   the weights of the best epoch so far

Every file is written aside, synced and renamed, so that a stop at any moment leaves the old or the new one whole.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ..errors import ChainruleError, UsageError
from .config import TrainConfig
from .prepare import Schema

__all__ = ["RunFolder", "next_free"]


def _write_aside(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def next_free(root: Path, stem: str) -> Path:
    """``root/stem-1``, or the first number that is not taken."""
    n = 1
    while (root / f"{stem}-{n}").exists():
        n += 1
    return root / f"{stem}-{n}"


class RunFolder:
    """Reading and writing one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @classmethod
    def create(cls, path: Path, config: TrainConfig, schema: Schema, versions: dict[str, str]) -> RunFolder:
        """A new run.

        Raises:
            UsageError: when the folder holds a run already, or cannot be made.
        """
        if (path / "config.json").exists():
            raise UsageError(f"{path} holds a run already: continue it with --resume {path}, or name another --run-dir")
        try:
            path.mkdir(parents=True, exist_ok=True)
            described = {"config": config.to_dict(), "schema": schema.to_dict(), "versions": versions}
            _write_aside(path / "config.json", (json.dumps(described, indent=1) + "\n").encode())
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> tuple[RunFolder, TrainConfig, Schema]:
        """An existing run with its settings.

        Raises:
            UsageError: when it is none, or its config.json is damaged.
        """
        file = path / "config.json"
        try:
            described = json.loads(file.read_text(encoding="utf-8"))
            config = TrainConfig.from_dict(described["config"], str(file))
            schema = Schema.from_dict(described["schema"])
        except FileNotFoundError:
            raise UsageError(f"{path} is not the folder of a run (it has no config.json)") from None
        except OSError as error:
            raise UsageError(f"{file}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{file}: damaged ({type(error).__name__}: {error})") from None
        return cls(path), config, schema

    # --- metrics ----------------------------------------------------------------------------------------------------

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def append(self, row: dict[str, Any]) -> None:
        """Add one epoch's line."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def truncate(self, epochs: int) -> None:
        """Keep the first ``epochs`` lines (a run that was killed may have written one that its weights do not have)."""
        if self._metrics.exists():
            lines = self._metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            if len(lines) > epochs:
                _write_aside(self._metrics, "".join(lines[:epochs]).encode())

    # --- weights ----------------------------------------------------------------------------------------------------

    def save_last(self, state: dict[str, Any]) -> None:
        """Everything that resuming needs."""
        from .. import save

        save(state, self.last)

    def save_best(self, weights: dict[str, Any]) -> None:
        """The best weights so far."""
        from .. import save

        save(weights, self.best)

    def load(self, file: Path) -> dict[str, Any]:
        """A checkpoint of this run.

        Raises:
            UsageError: one sentence, when it is missing, damaged or foreign.
        """
        from .. import load

        if not file.exists():
            raise UsageError(f"{file} does not exist: the run was stopped before it saved anything")
        try:
            found = load(file)
        except (ChainruleError, ValueError, OSError, RuntimeError, KeyError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"{file}: not a checkpoint that can be read ({first})") from None
        if not isinstance(found, dict):
            raise UsageError(f"{file}: not a checkpoint of chainrule train")
        return found


def load_weights(model: Any, weights: Any, file: Path) -> None:
    """Put saved weights into the network.

    Raises:
        UsageError: when names or shapes do not match; the network is unchanged then.
    """
    own = model.state_dict()
    if not isinstance(weights, dict) or set(own) != set(weights):
        missing = sorted(set(own) - set(weights if isinstance(weights, dict) else ()))
        raise UsageError(f"{file}: these are not this network's weights" + (f" (no {missing[0]!r})" if missing else ""))
    for name, tensor in own.items():
        if tuple(tensor.shape) != tuple(weights[name].shape):
            raise UsageError(
                f"{file}: {name} has shape {tuple(weights[name].shape)}, the network needs {tuple(tensor.shape)}"
            )
    model.load_state_dict(weights)
