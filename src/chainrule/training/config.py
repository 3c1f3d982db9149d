"""What to train and how: one frozen description, from defaults, a TOML file and the command line, in that order."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError

__all__ = ["TrainConfig", "read_config", "ACTIVATIONS", "LOSSES", "OPTIMIZERS", "SCHEDULES", "NORMS"]

ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu", "elu")
LOSSES = ("auto", "cross_entropy", "mse", "l1", "huber")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad")
SCHEDULES = ("none", "cosine", "step", "exponential", "linear", "onecycle", "plateau")
NORMS = ("none", "batch", "layer")


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run. Field names are the command's options with ``_`` for ``-``."""

    data: str = "digits"
    target: str | None = None
    hidden: tuple[int, ...] = (128, 64)
    activation: str = "relu"
    norm: str = "batch"
    residual: bool = False
    dropout: float = 0.2
    loss: str = "auto"
    optimizer: str = "adam"
    lr: float = 3e-3
    momentum: float = 0.9
    schedule: str = "cosine"
    weight_decay: float = 0.0
    clip_grad_norm: float | None = None
    epochs: int = 40
    batch_size: int = 32
    early_stop: int | None = None
    val_split: float = 0.1
    test_split: float = 0.2
    standardize: bool = True
    seed: int = 0
    overfit_one_batch: bool = False
    compile: bool | None = None
    """None: compile runs that are long enough to gain by it."""

    def __post_init__(self) -> None:
        def need(good: bool, sentence: str) -> None:
            if not good:
                raise UsageError(sentence)

        def one_of(name: str, choices: tuple[str, ...]) -> None:
            value = getattr(self, name)
            if value not in choices:
                near = difflib.get_close_matches(str(value), choices, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise UsageError(f"{name.replace('_', '-')} must be one of {', '.join(choices)}, not {value!r}{hint}")

        one_of("activation", ACTIVATIONS)
        one_of("norm", NORMS)
        one_of("loss", LOSSES)
        one_of("optimizer", OPTIMIZERS)
        one_of("schedule", SCHEDULES)
        need(all(h >= 1 for h in self.hidden), f"hidden: every width must be at least 1, not {_commas(self.hidden)}")
        need(self.batch_size >= 1, f"batch-size must be at least 1, not {self.batch_size}")
        need(self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}")
        need(0 <= self.dropout < 1, f"dropout must be at least 0 and less than 1, not {self.dropout:g}")
        need(0 < self.lr < float("inf"), f"lr must be a positive number, not {self.lr:g}")
        need(0 <= self.momentum < 1, f"momentum must be at least 0 and less than 1, not {self.momentum:g}")
        need(0 <= self.weight_decay < float("inf"), f"weight-decay must be 0 or more, not {self.weight_decay:g}")
        need(
            self.clip_grad_norm is None or 0 < self.clip_grad_norm < float("inf"),
            f"clip-grad-norm must be a positive number, not {self.clip_grad_norm}",
        )
        need(self.early_stop is None or self.early_stop >= 1, f"early-stop must be at least 1, not {self.early_stop}")
        for name in ("val_split", "test_split"):
            value = getattr(self, name)
            need(0 <= value < 1, f"{name.replace('_', '-')} must be at least 0 and less than 1, not {value:g}")
        need(
            self.val_split + self.test_split < 1,
            f"val-split {self.val_split:g} and test-split {self.test_split:g} leave nothing to train on",
        )
        need(
            self.early_stop is None or self.val_split > 0,
            "early-stop watches the validation loss: give --val-split more than 0",
        )
        need(0 <= self.seed < 2**63, f"seed must be a whole number from 0 to 2**63 - 1, not {self.seed}")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        found = dataclasses.asdict(self)
        found["hidden"] = list(self.hidden)
        return found

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str) -> TrainConfig:
        """From plain values, each checked for its type.

        Raises:
            UsageError: for an unknown name or a value of the wrong type; ``source`` says where it stood.
        """
        return cls(**checked(values, source))


def _commas(widths: tuple[int, ...]) -> str:
    return ",".join(map(str, widths))


_ALSO = {
    "learning_rate": "lr", "layers": "hidden", "hidden_size": "hidden", "hidden_sizes": "hidden", "widths": "hidden",
    "scheduler": "schedule", "lr_schedule": "schedule", "optim": "optimizer", "wd": "weight_decay",
    "num_epochs": "epochs", "n_epochs": "epochs", "max_epochs": "epochs", "patience": "early_stop",
    "grad_clip": "clip_grad_norm", "clip": "clip_grad_norm", "normalization": "norm", "label": "target",
}  # fmt: skip
"""Other words for settings, which are too different to be taken for misspellings."""


def checked(values: dict[str, Any], source: str) -> dict[str, Any]:
    """``values`` with ``-`` turned into ``_`` and every type as the field wants it."""
    fields = {f.name: f for f in dataclasses.fields(TrainConfig)}
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in fields:
            near = [_ALSO[name]] if name in _ALSO else difflib.get_close_matches(name, fields, 1)
            hint = f"; did you mean {near[0].replace('_', '-')!r}?" if near else f"; there are: {', '.join(fields)}"
            raise UsageError(f"{source}: unknown setting {key!r}{hint}")
        found[name] = _typed(key, value, str(fields[name].type), source)
    return found


def _typed(key: str, value: Any, wanted: str, source: str) -> Any:
    if value is None and "None" in wanted:
        return None
    number: Any = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if wanted.startswith("tuple"):
        if isinstance(value, str):
            return parse_widths(value)
        if isinstance(value, (list, tuple)) and all(isinstance(v, int) and not isinstance(v, bool) for v in value):
            return tuple(value)
        what = "a list of whole numbers"
    elif wanted.startswith("bool"):
        if isinstance(value, bool):
            return value
        what = "true or false"
    elif wanted.startswith("int"):
        if number is not None and number == int(number):
            return int(number)
        what = "a whole number"
    elif wanted.startswith("float"):
        if number is not None:
            return float(number)
        what = "a number"
    else:
        if isinstance(value, str):
            return value
        what = "text"
    raise UsageError(f"{source}: {key} must be {what}, not {value!r}")


def parse_widths(text: str) -> tuple[int, ...]:
    """``"64,32"`` → (64, 32); an empty text means no hidden layer."""
    parts = [p.strip() for p in text.split(",")] if text.strip() else []
    if not all(p.isdigit() for p in parts):
        raise UsageError(f"hidden must be widths separated by commas, such as 64,32, not {text!r}")
    return tuple(int(p) for p in parts)


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        UsageError: when it cannot be read, is no TOML, or names an unknown setting.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error})") from None
    return checked(values, str(path))
