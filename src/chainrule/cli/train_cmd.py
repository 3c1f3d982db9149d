"""``chainrule train``: verify the gradients, train, report on data that the network has not seen."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import signal
from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from ..training import config as settings
from ..training.config import TrainConfig

__all__ = ["train_command"]


def _choice(values: tuple[str, ...]) -> click.Choice:
    return click.Choice(values)


@click.command("train")
@click.argument("data", required=False)
@click.option("--target", help="Name of the target column (default: the last one).")
@click.option("--hidden", metavar="WIDTHS", help='Widths of the hidden layers, "64,32" (default 128,64).')
@click.option("--activation", type=_choice(settings.ACTIVATIONS), help="Default relu.")
@click.option("--norm", type=_choice(settings.NORMS), help="Normalisation in each block (default batch).")
@click.option("--residual/--no-residual", default=None, help="Add each block's input where the widths agree.")
@click.option("--dropout", type=float, metavar="P", help="Dropout in each block (default 0.2).")
@click.option("--loss", type=_choice(settings.LOSSES), help="Default: by the target.")
@click.option("--optimizer", type=_choice(settings.OPTIMIZERS), help="Default adam.")
@click.option("--lr", type=float, help="Learning rate (default 0.003).")
@click.option("--momentum", type=float, help="For sgd (default 0.9).")
@click.option("--schedule", type=_choice(settings.SCHEDULES), help="Default cosine.")
@click.option("--weight-decay", type=float, help="Default 0.")
@click.option("--clip-grad-norm", type=float, metavar="NORM", help="Scale the gradient down to this norm.")
@click.option("--epochs", type=int, help="Default 40.")
@click.option("--batch-size", type=int, help="Default 32.")
@click.option("--early-stop", type=int, metavar="EPOCHS", help="Stop after so many epochs without improvement.")
@click.option("--val-split", type=float, metavar="PART", help="Part of the rows for validation (default 0.1).")
@click.option("--test-split", type=float, metavar="PART", help="Part of the rows for the final test (default 0.2).")
@click.option("--standardize/--no-standardize", default=None, help="Columns to mean 0, deviation 1 (default on).")
@click.option("--seed", type=int, help="Default 0.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings in TOML; the command line wins.",
)
@click.option(
    "--run-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where to keep the run (default runs/DATA-N)."
)
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with a stopped run.")
@click.option("--overfit-one-batch", is_flag=True, default=None, help="Train on one batch only: the loss must go to 0.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, verify the gradients, write nothing.")
@click.option("--watch", is_flag=True, help="Watch gradients and updates while training; kept in watch.jsonl.")
@click.option("--stop-hopeless", is_flag=True, help="With --watch: stop a run that cannot come to anything.")
@click.option("--compile/--no-compile", default=None, help="Native steps (default: where it pays).")
@click.option("--no-verify", is_flag=True, help="Skip the numerical check of the gradients.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, nothing else.")
def train_command(
    data: str | None,
    config_file: Path | None,
    run_dir: Path | None,
    resume: Path | None,
    dry_run: bool,
    watch: bool,
    stop_hopeless: bool,
    no_verify: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a network on DATA: `digits`, `diabetes`, a CSV or an NPZ file.

    Columns of a CSV file hold numbers, or text with at most 20 values: each value becomes a feature of 0 and 1.

    Before training, the gradient of the loss with respect to every weight is verified numerically. The run is kept in
    a folder: settings, metrics of every epoch, last and best weights.
    """
    from rich.console import Console

    out = Console(quiet=as_json, highlight=False, soft_wrap=True)  # long lines stay whole in logs
    given = {k: v for k, v in given.items() if v is not None}
    if resume is not None:
        _resume(resume, data, given, config_file, out, as_json)
        return
    values = settings.read_config(config_file) if config_file else {}
    values.update(settings.checked(given, "command line"))
    if data is not None:
        values["data"] = data
    if "data" not in values:
        raise click.UsageError("name the data: digits, diabetes, or a CSV or NPZ file")
    config = TrainConfig(**values)
    _start(config, run_dir, dry_run, not no_verify, out, as_json)


def versions() -> dict[str, str]:
    """What made this run."""
    import numpy as np

    from .. import __version__

    return {"chainrule": __version__, "numpy": np.__version__, "python": platform.python_version()}


def _describe(trainer: Any, out: Any) -> None:
    data, config = trainer.data, trainer.config
    schema = data.schema
    n = [len(part[0]) for part in (data.train, data.val, data.test)]
    what = (
        f"{len(schema.class_names)} classes" if schema.kind == "classification" else f"quantity {schema.target_name!r}"
    )
    out.print(f"data     {config.data}: {n[0]} rows to train on, {n[1]} to validate, {n[2]} to test; "
              f"{len(schema.feature_names)} features, {what}")  # fmt: skip
    if schema.categories:
        counts = ", ".join(f"{name} ({len(values)} values)" for name, values in schema.categories.items())
        out.print(f"         text columns, one feature for each value: {counts}")
    if data.table.source and data.table.licence:
        out.print(f"         {data.table.source}; {data.table.licence}", style="dim")
    widths = [len(schema.feature_names), *config.hidden, schema.outputs]
    parameters = sum(p.numel() for p in trainer.model.parameters())
    extras = [config.activation]
    if config.norm != "none":
        extras.append(f"{config.norm} norm")
    if config.residual:
        extras.append("residual")
    if config.dropout:
        extras.append(f"dropout {config.dropout:g}")
    out.print(f"network  {'-'.join(map(str, widths))}, {', '.join(extras)}: {parameters:,} parameters")
    loss = config.loss if config.loss != "auto" else trainer.loss.__name__
    if trainer.compiled:
        how = "compiled to native code (--no-compile for NumPy)"
    else:
        how = "NumPy" if config.compile is not None else "NumPy: compiling would take longer than this run saves"
    clip = f", gradient clipped at {config.clip_grad_norm:g}" if config.clip_grad_norm else ""
    out.print(f"training {loss}, {config.optimizer} lr {config.lr:g}, schedule {config.schedule}{clip}, "
              f"{config.epochs} epochs of {trainer.batches} batches of {config.batch_size}")  # fmt: skip
    out.print(f"steps    {how}")


def _verify(trainer: Any, out: Any, as_json: bool) -> dict[str, Any]:
    """Check the network's gradients; a wrong one ends the command."""
    from rich.console import Console

    from ..training.verify import verify

    with out.status("verifying the gradients …"):
        report = verify(trainer.model, trainer.loss, *trainer.data.train, seed=trainer.config.seed)
    found = report.to_dict()
    if not report.ok:
        Console(stderr=True, soft_wrap=True, highlight=False).print(report)  # the report wraps itself
        if found["verdict"] == "FAIL":
            raise UsageError("the gradients of this network are wrong; nothing was trained")
        return found
    allowed = max(p.allowed for p in report.parameters)
    out.print(
        f"gradient verified numerically in float64: dL/dw is right for all {len(report.parameters)} arrays "
        f"(largest deviation: {allowed:.2g} of what the numeric error allows); {report.cost()}"
    )
    for note in report.notes:
        if note.kind == "moved":
            out.print(f"         {note.text}")
    return found


def _start(config: TrainConfig, run_dir: Path | None, dry_run: bool, check: bool, out: Any, as_json: bool) -> None:
    from ..training.loop import Trainer
    from ..training.prepare import load, prepare
    from ..training.runfolder import RunFolder, next_free

    data = prepare(load(config.data, config.target), config)
    trainer = Trainer(config, data, None)
    _describe(trainer, out)
    verified = _verify(trainer, out, as_json) if check else None
    if dry_run:
        out.print("dry run  nothing was trained or written")
        if as_json:
            click.echo(json.dumps({"config": config.to_dict(), "verification": verified, "dry_run": True}))
        return
    where = run_dir or next_free(Path("runs"), Path(config.data).stem)
    # The check drew random numbers; a run must not depend on whether it was made.
    trainer = Trainer(config, data, RunFolder.create(where, config, data.schema, versions()))
    _run(trainer, out, as_json, verified)


def _resume(
    path: Path, data: str | None, given: dict[str, Any], config_file: Path | None, out: Any, as_json: bool
) -> None:
    from ..training.loop import Trainer
    from ..training.prepare import load, prepare
    from ..training.runfolder import RunFolder

    folder, config, schema = RunFolder.open(path)
    if config_file is not None or data not in (None, config.data):
        raise UsageError("a resumed run keeps its data and settings: only --epochs may be given with --resume")
    extra = set(given) - {"epochs"}
    if extra:
        name = sorted(extra)[0].replace("_", "-")
        raise UsageError(f"a resumed run keeps its settings: --{name} cannot be changed (only --epochs can)")
    if "epochs" in given:
        if (
            config.schedule in ("cosine", "linear", "onecycle", "exponential", "step")
            and given["epochs"] != config.epochs
        ):
            raise UsageError(
                f"the schedule {config.schedule} was laid out for {config.epochs} epochs: start a new run instead"
            )
        config = dataclasses.replace(config, epochs=given["epochs"])
    prepared = prepare(load(config.data, config.target), config)
    if prepared.schema != schema:
        raise UsageError(
            f"{config.data} is not the data that {path} was trained on (columns, classes or values differ)"
        )
    trainer = Trainer(config, prepared, folder)
    trainer.restore(folder.load(folder.last), folder.last)
    folder.truncate(trainer.at.epoch)
    _describe(trainer, out)
    where = f"epoch {trainer.at.epoch + 1}, batch {trainer.at.step + 1}"
    if trainer.at.epoch >= config.epochs or trainer.at.finished:
        out.print(f"resume   {path} was finished already")
        trainer.at.finished = True
    else:
        out.print(f"resume   {path} at {where}")
    _run(trainer, out, as_json, None)


def _run(trainer: Any, out: Any, as_json: bool, verified: dict[str, Any] | None) -> None:
    from rich.console import Console

    from .progress import make_report

    config, folder = trainer.config, trainer.folder

    def interrupt(signum: int, frame: Any) -> None:
        if trainer.stop:
            raise KeyboardInterrupt
        trainer.stop = True

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        report = make_report(
            config.epochs, trainer.batches, trainer.metric, trainer.at.epoch, Console(stderr=True), as_json
        )
        with report:
            _watched(trainer, lambda: trainer.run(report), out)
    except KeyboardInterrupt:
        raise UsageError(f"stopped at once; the last checkpoint is in {folder.path}: --resume {folder.path}") from None
    finally:
        signal.signal(signal.SIGINT, previous)
    if trainer.stop and not trainer.at.finished:
        out.print(
            f"stopped  in epoch {trainer.at.epoch + 1} after batch {trainer.at.step}; saved. "
            f"Go on with: chainrule train --resume {folder.path}"
        )
        if as_json:
            click.echo(json.dumps({"run": str(folder.path), "stopped": True, "epoch": trainer.at.epoch}))
        raise click.exceptions.Exit(130)
    _conclude(trainer, out, as_json, verified)


def _watched(trainer: Any, run: Any, out: Any) -> None:
    """Run, watching gradients and updates when ``--watch`` says so; what was seen goes beside the metrics."""
    options = click.get_current_context().params
    if not (options.get("watch") or options.get("stop_hopeless")):
        run()
        return
    from ..diagnose.watch import Watch

    trainer.watch = Watch(trainer.model, trainer.optimizer, stop=options["stop_hopeless"])
    try:
        run()
    finally:
        file = trainer.folder.path / "watch.jsonl"
        trainer.watch.write(file)
        out.print(f"watch    {trainer.watch}")
        out.print(f"         kept in {file}")


def _conclude(trainer: Any, out: Any, as_json: bool, verified: dict[str, Any] | None) -> None:
    """Results of the best weights on the rows that were kept apart."""
    from ..training.loop import evaluate

    config, folder = trainer.config, trainer.folder
    result: dict[str, Any] = {"run": str(folder.path), "epochs": trainer.at.epoch, "best_epoch": trainer.at.best_epoch,
                              "final_train_loss": trainer.at.history[-1] if trainer.at.history else None,
                              "train_losses": trainer.at.history, "verification": verified}  # fmt: skip
    if config.overfit_one_batch:
        first, last = trainer.at.history[0], trainer.at.history[-1]
        good = last < 0.05 * first or last < 1e-3
        result["overfit"] = {"first_loss": first, "last_loss": last, "fits": good}
        verdict = "it can fit a batch" if good else "it does NOT fit one batch: look for a bug before training on more"
        out.print(f"result   one batch: loss {first:.4g} → {last:.4g}; {verdict}")
    else:
        trainer.load_best()
        x, y = trainer.data.test
        part = "test"
        if not len(x):
            (x, y), part = trainer.data.val, "validation"
        if len(x):
            loss, metric = evaluate(trainer.model, x, y, trainer.loss, trainer.kind)
            result.update({"part": part, "rows": len(x), "loss": loss, "metric": trainer.metric, "value": metric})
            shown = f"{100 * metric:.2f} % accuracy" if trainer.kind == "classification" else f"R² {metric:.4f}"
            if trainer.kind == "regression":
                rmse = math.sqrt(((evaluate_rows(trainer, x) - y) ** 2).mean()) * trainer.data.schema.target_std
                result["rmse"] = rmse
                shown += f", typical error {rmse:.4g} ({trainer.data.schema.target_name})"
            out.print(
                f"result   {shown} on {len(x)} {part} rows that it did not train on "
                f"(weights of epoch {trainer.at.best_epoch})"
            )
    out.print(f"run      {folder.path} (use it: chainrule predict {folder.path} DATA)")
    if as_json:
        click.echo(json.dumps(result))


def evaluate_rows(trainer: Any, x: Any) -> Any:
    """The network's outputs, in eval mode."""
    import chainrule as torch

    trainer.model.eval()
    with torch.no_grad():
        return trainer.model(torch.from_numpy(x)).numpy()
