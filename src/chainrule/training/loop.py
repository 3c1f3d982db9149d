"""The training loop: forward, loss, backward, update; validation; checkpoints; and a way back into all of it.

A run is a function of its config: the order of the rows is drawn from (seed, epoch), dropout from the library's
generator, whose state is saved. So a resumed run goes on with the same losses to the last bit.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

import chainrule as torch

from .. import optim
from ..errors import UsageError
from ..nn import functional as F
from ..nn.utils import clip_grad_norm_, get_total_norm
from .config import TrainConfig
from .model import MLP, build
from .nonfinite import first_nonfinite
from .prepare import Prepared
from .runfolder import RunFolder, load_weights

__all__ = ["Trainer", "fit", "Report", "Diverged", "evaluate", "loss_function"]


WORK, PAYS = 600_000, 2_900
"""Compiling a step (two sizes of batches, and the update) takes about as long as 1400 eager steps of a tiny network,
measured without a cache; a step of ``WORK`` products of a weight and a row takes twice as long as a tiny one."""


class Diverged(UsageError):
    """The loss or a gradient became NaN or infinite."""


class Report(Protocol):
    """What the loop tells the one who watches."""

    def batch(self, info: dict[str, Any]) -> None: ...
    def epoch(self, row: dict[str, Any]) -> None: ...


@dataclass
class Position:
    """Where in the run we are; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0
    """Batches done in this epoch."""
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    samples: int = 0
    best: float | None = None
    best_epoch: int = 0
    since_best: int = 0
    seconds: float = 0.0
    finished: bool = False
    history: list[float] = field(default_factory=list)


def loss_function(config: TrainConfig, kind: str) -> Callable[[Any, Any], Any]:
    """Cross-entropy for classes, the mean squared error for quantities, unless the config says otherwise."""
    name = config.loss
    if name == "auto":
        name = "cross_entropy" if kind == "classification" else "mse"
    return {
        "cross_entropy": F.cross_entropy, "mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss,
    }[name]  # fmt: skip


def _optimizer(config: TrainConfig, parameters: Any) -> Any:
    if config.optimizer == "sgd":
        return optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    cls = {"adam": optim.Adam, "adamw": optim.AdamW, "rmsprop": optim.RMSprop, "adagrad": optim.Adagrad}[
        config.optimizer
    ]
    return cls(parameters, lr=config.lr, weight_decay=config.weight_decay)


def _scheduler(config: TrainConfig, optimizer: Any, steps: int) -> tuple[Any, str]:
    """The schedule, and whether it moves every "batch" or every "epoch"."""
    s = optim.lr_scheduler
    total = steps * config.epochs
    if config.schedule == "cosine":
        return s.CosineAnnealingLR(optimizer, T_max=total), "batch"
    if config.schedule == "onecycle":
        return s.OneCycleLR(optimizer, max_lr=config.lr, total_steps=total), "batch"
    if config.schedule == "linear":
        return s.LinearLR(optimizer, start_factor=1.0, end_factor=0.01, total_iters=total), "batch"
    if config.schedule == "step":
        return s.StepLR(optimizer, step_size=max(1, config.epochs // 3), gamma=0.1), "epoch"
    if config.schedule == "exponential":
        return s.ExponentialLR(optimizer, gamma=0.01 ** (1 / config.epochs)), "epoch"
    if config.schedule == "plateau":
        return s.ReduceLROnPlateau(optimizer, patience=3), "epoch"
    return None, "epoch"


def pays(config: TrainConfig, batches: int, parameters: int) -> bool:
    """Whether a run is long enough to be compiled, unless the config says.

    Decided by the run's size and not by a clock, so that a resumed run does as the one that was stopped.
    """
    if config.compile is not None:
        return config.compile
    return batches * config.epochs * (1 + parameters * config.batch_size / WORK) > PAYS


def evaluate(model: Any, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], loss: Any, kind: str) -> tuple[float, float]:
    """Mean loss, and accuracy (classes) or R² = 1 − Σ(y−ŷ)²/Σ(y−ȳ)² (quantities), with the network in eval mode."""
    was = model.training
    model.eval()
    with torch.no_grad():
        out = model(torch.from_numpy(x))
        value = float(loss(out, torch.from_numpy(y)))
    model.train(was)
    guess = out.numpy()
    if kind == "classification":
        return value, float((guess.argmax(axis=1) == y).mean())
    spread = float(((y - y.mean()) ** 2).sum())
    rest = float(((y - guess) ** 2).sum())
    return value, (1 - rest / spread) if spread > 0 else math.nan


class Trainer:
    """One run: the network, the optimizer and where they are."""

    def __init__(self, config: TrainConfig, data: Prepared, folder: RunFolder | None) -> None:
        if config.overfit_one_batch:  # every step on the first batch, with nothing that keeps the loss from 0
            config = dataclasses.replace(config, dropout=0.0, weight_decay=0.0, schedule="none", early_stop=None)
        self.config, self.data, self.folder = config, data, folder
        self.kind = data.schema.kind
        self.metric = "accuracy" if self.kind == "classification" else "R²"
        self.model: MLP = build(data.train[0].shape[1], data.schema.outputs, config)
        self.loss = loss_function(config, self.kind)
        self.optimizer = _optimizer(config, self.model.parameters())
        n = len(data.train[0])
        self.batches = max(1, math.ceil(n / config.batch_size))
        if config.norm == "batch" and self.batches > 1 and n % config.batch_size == 1:
            self.batches -= 1  # one row has no batch statistics
        self.scheduler, self.moves = _scheduler(config, self.optimizer, self.batches)
        self.at = Position()
        self.compiled = pays(config, self.batches, sum(p.numel() for p in self.model.parameters()))
        # Two native programs, so that a step whose loss or gradient is not finite ends before it changes a weight.
        self.gradients: Any = self._gradients
        self.update: Any = self.optimizer.step
        if self.compiled:
            self.gradients = torch.compile(self._gradients, fallback=True)
            self.update = torch.compile(self._update, fallback=True)
        self.watch: Any = None
        """A ``chainrule.watch`` that is told of every step, or None."""
        self.stop = False
        """Set by a signal handler: the loop ends after the current batch, saved."""

    # --- into and out of a checkpoint -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that changes while training."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "rng": torch.get_rng_state(),
            "position": dict(self.at.__dict__),
        }

    def restore(self, state: dict[str, Any], file: Any) -> None:
        """Continue from a checkpoint.

        Raises:
            UsageError: when it belongs to another network or is incomplete.
        """
        try:
            weights, optimizer, scheduler = state["model"], state["optimizer"], state["scheduler"]
            position, rng = Position(**state["position"]), state["rng"]
        except (KeyError, TypeError):
            raise UsageError(f"{file}: not a checkpoint of chainrule train") from None
        load_weights(self.model, weights, file)
        self.optimizer.load_state_dict(optimizer)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(scheduler)
        torch.set_rng_state(rng)
        self.at = position

    def save(self) -> None:
        if self.folder is not None:
            self.folder.save_last(self.state())

    # --- training ---------------------------------------------------------------------------------------------------

    def run(self, report: Report) -> None:
        """Train until the end, an early stop, or ``self.stop``.

        Raises:
            Diverged: when the loss or the gradient is no longer finite; the checkpoint before it stays.
        """
        self.save()
        while self.at.epoch < self.config.epochs and not self.at.finished:
            if not self._epoch(report):
                return
        self.at.finished = True
        self.save()

    def _epoch(self, report: Report) -> bool:
        config, at = self.config, self.at
        x, y = self.data.train
        order = np.random.default_rng((config.seed, at.epoch)).permutation(len(x))
        self.model.train()
        while at.step < self.batches:
            start_row = 0 if config.overfit_one_batch else at.step * config.batch_size
            rows = (np.arange(len(x)) if config.overfit_one_batch else order)[start_row : start_row + config.batch_size]
            start = time.perf_counter()
            loss, norm = self._batch(torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))
            at.seconds += time.perf_counter() - start
            at.step += 1
            at.loss_sum += loss * len(rows)
            at.norm_sum += norm
            at.samples += len(rows)
            report.batch(
                {
                    "epoch": at.epoch + 1,
                    "step": at.step,
                    "loss": loss,
                    "grad_norm": norm,
                    "lr": self.optimizer.param_groups[0]["lr"],
                    "samples": len(rows),
                }
            )
            if self.stop:
                self.save()
                return False
        self._close_epoch(report)
        return True

    def _batch(self, x: Any, y: Any) -> tuple[float, float]:
        rng = torch.get_rng_state() if self.config.dropout else None
        loss, found = self.gradients(x, y)
        value, norm = loss.item(), float(found)
        if not math.isfinite(norm):
            if rng is not None:
                torch.set_rng_state(rng)
            where = first_nonfinite(self.model, self.loss, x, y)
            what = f"the loss became {value}" if not math.isfinite(value) else f"the gradient norm became {norm}"
            raise Diverged(
                f"{what} in epoch {self.at.epoch + 1}, batch {self.at.step + 1}: {where}. "
                f"Try a smaller --lr (it is {self.optimizer.param_groups[0]['lr']:g}) or --clip-grad-norm 1."
            )
        if self.watch is not None:
            self.watch.step(loss)
        self.update()
        if self.scheduler is not None and self.moves == "batch":
            self.scheduler.step()
        return value, norm

    def _gradients(self, x: Any, y: Any) -> tuple[Any, Any]:
        """The loss of a batch and the norm of its gradient, which is left in the parameters (clipped)."""
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        if not self.compiled and not math.isfinite(loss.item()):
            return loss, math.nan
        loss.backward()
        limit = self.config.clip_grad_norm
        if limit is not None:
            return loss, clip_grad_norm_(self.model.parameters(), limit)
        return loss, get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])

    def _update(self) -> None:
        self.optimizer.step()

    def _close_epoch(self, report: Report) -> None:
        config, at = self.config, self.at
        row: dict[str, Any] = {
            "epoch": at.epoch + 1,
            "loss": at.loss_sum / at.samples,
            "grad_norm": at.norm_sum / at.step,
            "lr": self.optimizer.param_groups[0]["lr"],
            "samples_per_s": at.samples / max(at.seconds, 1e-9),
        }
        watched = row["loss"]
        if len(self.data.val[0]) and not config.overfit_one_batch:
            row["val_loss"], row["val_metric"] = evaluate(self.model, *self.data.val, self.loss, self.kind)
            watched = row["val_loss"]
        if self.scheduler is not None and self.moves == "epoch":
            self.scheduler.step(watched) if config.schedule == "plateau" else self.scheduler.step()
        at.history.append(row["loss"])
        better = at.best is None or watched < at.best
        if better:
            at.best, at.best_epoch, at.since_best = watched, at.epoch + 1, 0
        else:
            at.since_best += 1
        at.epoch += 1
        at.step, at.samples, at.loss_sum, at.norm_sum, at.seconds = 0, 0, 0.0, 0.0, 0.0
        if config.early_stop is not None and at.since_best >= config.early_stop:
            at.finished = True
        if self.folder is not None:
            if better:
                self.folder.save_best(self.model.state_dict())
            self.folder.append(row)
            self.save()
        report.epoch(row)

    def load_best(self) -> None:
        """Go back to the weights of the best epoch."""
        if self.folder is not None and self.folder.best.exists():
            load_weights(self.model, self.folder.load(self.folder.best), self.folder.best)


def fit(config: TrainConfig, data: Prepared, report: Report, folder: RunFolder | None = None) -> Trainer:
    """Train a network on prepared data from the start."""
    trainer = Trainer(config, data, folder)
    trainer.run(report)
    return trainer
