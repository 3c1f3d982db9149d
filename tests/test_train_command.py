"""``chainrule train``, ``predict`` and ``info`` as a user runs them: results, resuming to the last bit, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from chainrule.cli import main
from chainrule.data import load_digits


def run(*args: object, code: int = 0, cwd: Path | None = None) -> str:
    """Run the command in this process; the output, standard error included."""
    before = Path.cwd()
    if cwd is not None:
        os.chdir(cwd)
    try:
        result = CliRunner().invoke(main, [str(a) for a in args])
    finally:
        os.chdir(before)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def small(tmp_path: Path, *extra: object) -> list[object]:
    return ["train", "digits", "--hidden", "16", "--epochs", 3, "--run-dir", tmp_path / "run", "--no-verify", *extra]


def metrics(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("samples_per_s")
    return rows


def test_digits_is_learned(tmp_path):
    out = run("train", "digits", "--json", "--run-dir", tmp_path / "run")
    result = json.loads(out)
    assert result["part"] == "test"
    assert result["value"] >= 0.97
    assert result["verification"]["verdict"] == "PASS"
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert set(config) == {"config", "schema", "versions"}
    assert len(metrics(tmp_path / "run")) == result["epochs"] == 40


def test_the_gradients_are_verified_before_training(tmp_path):
    out = run("train", "digits", "--dry-run", "--run-dir", tmp_path / "run")
    assert "verified numerically" in out
    assert not (tmp_path / "run").exists()


def test_a_wrong_gradient_stops_the_command(tmp_path, monkeypatch):
    from chainrule.core.op import registry

    rule = registry["relu"].rules[0]
    right = rule.fn
    monkeypatch.setattr(rule, "fn", lambda g, *saved: right(g, *saved) * 2)
    out = run("train", "digits", "--run-dir", tmp_path / "run", code=2)
    assert "the gradients of this network are wrong" in out
    assert not (tmp_path / "run").exists()


def test_regression_on_diabetes(tmp_path):
    out = run("train", "diabetes", "--json", "--run-dir", tmp_path / "run", "--hidden", "32", "--epochs", 30)
    result = json.loads(out)
    assert result["metric"] == "R²"
    assert result["value"] > 0.3


@pytest.mark.parametrize(
    "options",
    [
        ["--optimizer", "adam", "--dropout", "0.3", "--schedule", "cosine"],
        ["--optimizer", "sgd", "--norm", "layer", "--schedule", "onecycle", "--residual", "--hidden", "16,16"],
        ["--optimizer", "rmsprop", "--schedule", "plateau", "--clip-grad-norm", "1", "--activation", "gelu"],
        ["--optimizer", "adamw", "--weight-decay", "0.01", "--schedule", "step"],
    ],
)
@pytest.mark.parametrize("stop_after", [5, 60])
@pytest.mark.parametrize("native", [False, True])
def test_a_resumed_run_goes_on_to_the_last_bit(tmp_path, options, stop_after, native):
    """Stop in the middle of an epoch (and at another), resume, and compare with a run that never stopped."""
    from chainrule.training import TrainConfig, Trainer, prepare
    from chainrule.training import config as settings
    from chainrule.training.prepare import load
    from chainrule.training.runfolder import RunFolder

    arguments = dict(zip((o.lstrip("-") for o in options[::2]), options[1::2], strict=False))
    if "--residual" in options:
        options = [o for o in options if o != "--residual"]
        arguments = {**dict(zip((o.lstrip("-") for o in options[::2]), options[1::2], strict=True)), "residual": True}
    for key in ("dropout", "clip-grad-norm", "weight-decay"):
        if key in arguments:
            arguments[key] = float(arguments[key])
    arguments.setdefault("hidden", "16")
    config = TrainConfig(**settings.checked({**arguments, "epochs": 3, "compile": native}, "test"))
    data = prepare(load("digits", None), config)

    class Watch:
        def __init__(self, trainer, stop_after=None):
            self.trainer, self.stop_after, self.losses = trainer, stop_after, []

        def batch(self, info):
            self.losses.append((info["loss"], info["grad_norm"], info["lr"]))
            if len(self.losses) == self.stop_after:
                self.trainer.stop = True

        def epoch(self, row): ...

    def trainer(name):
        return Trainer(config, data, RunFolder.create(tmp_path / name, config, data.schema, {}))

    whole = trainer("whole")
    through = Watch(whole)
    whole.run(through)

    first = trainer("parts")
    before = Watch(first, stop_after)
    first.run(before)
    folder, again, _ = RunFolder.open(tmp_path / "parts")
    second = Trainer(again, prepare(load("digits", None), again), folder)
    second.restore(folder.load(folder.last), folder.last)
    after = Watch(second)
    second.run(after)

    assert second.compiled is native
    assert before.losses + after.losses == through.losses
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")
    for name, tensor in whole.model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), second.model.state_dict()[name].numpy(), err_msg=name)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")
def test_ctrl_c_saves_and_says_how_to_resume(tmp_path):
    command = [
        sys.executable,
        "-m",
        "chainrule",
        "train",
        "digits",
        "--epochs",
        "3000",
        "--run-dir",
        "run",
        "--no-verify",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = tmp_path / "run" / "metrics.jsonl"
    for _ in range(600):
        if lines.exists() and lines.read_text().count("\n") >= 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "chainrule train --resume run" in out
    done = len(metrics(tmp_path / "run"))
    from chainrule import load

    position = load(tmp_path / "run" / "last.safetensors")["position"]
    assert position["epoch"] == done


def test_a_finished_run_says_so_when_resumed(tmp_path):
    run(*small(tmp_path))
    assert "was finished already" in run("train", "--resume", tmp_path / "run")


def test_overfitting_one_batch(tmp_path):
    out = run("train", "digits", "--overfit-one-batch", "--epochs", 10, "--no-verify", "--run-dir", tmp_path / "run")
    assert "it can fit a batch" in out


def test_predict(tmp_path):
    run(*small(tmp_path, "--epochs", 10))
    rows = run("predict", tmp_path / "run", "digits").splitlines()
    assert rows[0] == "row,digit,probability"
    guessed = np.array([int(r.split(",")[1]) for r in rows[1:]])
    assert (guessed == load_digits().y).mean() > 0.9
    run("predict", tmp_path / "run", "digits", "--json", "--output", tmp_path / "out.json")
    assert len(json.loads((tmp_path / "out.json").read_text())) == 1797


def test_a_csv_with_named_target(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    rows = ["a,kind,b,c"] + [f"{p},{'hot' if p + q > 0 else 'cold'},{q},{r}" for p, q, r in x]
    file = tmp_path / "data.csv"
    file.write_text("\n".join(rows) + "\n")
    out = run("train", file, "--target", "kind", "--json", "--epochs", 30, "--run-dir", tmp_path / "run", "--no-verify")
    assert json.loads(out)["value"] > 0.8
    answer = run("predict", tmp_path / "run", file).splitlines()
    assert answer[0] == "row,kind,probability"
    assert {line.split(",")[1] for line in answer[1:]} == {"hot", "cold"}


def test_settings_from_toml_and_the_command_line_wins(tmp_path):
    (tmp_path / "settings.toml").write_text('data = "diabetes"\nhidden = [8]\nepochs = 2\nweight-decay = 0.01\n')
    run("train", "--config", tmp_path / "settings.toml", "--epochs", 1, "--no-verify", "--run-dir", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (config["data"], config["hidden"], config["epochs"], config["weight_decay"]) == ("diabetes", [8], 1, 0.01)


def test_output_off_a_terminal_is_plain(tmp_path):
    out = run(*small(tmp_path))
    assert "\x1b" not in out
    assert "epoch 3/3" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "nowhere.csv"], "nowhere.csv"),
        (["train", "dgits"], "no bundled set of that name"),
        (["train", "digits", "--batch-size", "0"], "batch-size must be at least 1, not 0"),
        (["train", "digits", "--hidden", "64,x"], "hidden must be widths separated by commas"),
        (["train", "digits", "--lr", "-1"], "lr must be a positive number"),
        (["train", "digits", "--dropout", "1"], "dropout must be at least 0 and less than 1"),
        (["train", "digits", "--val-split", "0.6", "--test-split", "0.5"], "leave nothing to train on"),
        (["train", "digits", "--loss", "mse"], "is for quantities"),
        (["train", "diabetes", "--loss", "cross_entropy"], "is for classes"),
        (["train", "digits", "--target", "label"], "the target of this bundled set is 'digit'"),
        (["train", "--resume", "nowhere"], "is not the folder of a run"),
        (["predict", "nowhere", "digits"], "is not the folder of a run"),
        (["train"], "name the data"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, arguments, sentence):
    out = run(*arguments, code=2, cwd=tmp_path)
    assert sentence in out
    assert "Traceback" not in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epochs = 'many'", "epochs must be a whole number"),
        ("epoch = 3", "unknown setting 'epoch'; did you mean 'epochs'?"),
        ("epochs = ", "not a TOML file"),
    ],
)
def test_bad_settings_files(tmp_path, text, sentence):
    (tmp_path / "settings.toml").write_text(text)
    assert sentence in run("train", "digits", "--config", tmp_path / "settings.toml", code=2)


def test_a_run_is_never_overwritten(tmp_path):
    run(*small(tmp_path))
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "holds a run already" in run(*small(tmp_path), code=2)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("damage", ["cut", "text", "foreign", "missing"])
def test_a_damaged_checkpoint_is_refused_and_nothing_is_touched(tmp_path, damage):
    run(*small(tmp_path))
    last = tmp_path / "run" / "last.safetensors"
    if damage == "cut":
        last.write_bytes(last.read_bytes()[:200])
    elif damage == "text":
        last.write_text("not a checkpoint")
    elif damage == "foreign":
        import chainrule as torch

        torch.save({"weight": torch.ones(3)}, last)
    else:
        last.unlink()
    before = {f.name: f.read_bytes() for f in (tmp_path / "run").iterdir()}
    out = run("train", "--resume", tmp_path / "run", code=2)
    assert str(last) in out
    assert {f.name: f.read_bytes() for f in (tmp_path / "run").iterdir()} == before


def test_weights_of_another_shape_are_refused(tmp_path):
    run(*small(tmp_path))
    other = small(tmp_path / "b")
    other[3] = "32"
    run(*other)
    (tmp_path / "run" / "best.safetensors").write_bytes((tmp_path / "b" / "run" / "best.safetensors").read_bytes())
    out = run("predict", tmp_path / "run", "digits", code=2)
    assert "has shape" in out


@pytest.mark.parametrize("options", [["--optimizer", "sgd", "--lr", "1e20"], ["--norm", "none", "--lr", "1e30"]])
def test_a_diverging_run_names_where(tmp_path, options):
    out = run("train", "digits", "--no-verify", "--run-dir", tmp_path / "run", *options, code=2)
    assert "first in" in out or "itself holds" in out
    assert "epoch 1" in out


def test_compiled_and_eager_runs_agree(tmp_path):
    found = {}
    for option in ("--compile", "--no-compile"):
        folder = tmp_path / option
        out = run(*small(folder), option)
        assert ("compiled to native code" in out) is (option == "--compile")
        found[option] = metrics(folder / "run")
    for a, b in zip(*found.values(), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-2)
    assert "longer than this run saves" in run(*small(tmp_path / "short"))


@pytest.mark.parametrize("options", [["--optimizer", "sgd", "--lr", "1e20"], ["--norm", "none", "--lr", "1e30"]])
def test_a_compiled_run_that_diverges_names_where(tmp_path, options):
    out = run(*small(tmp_path), "--compile", *options, code=2)
    assert "first in" in out or "itself holds" in out


def test_watching_a_compiled_run(tmp_path):
    out = run(*small(tmp_path), "--compile", "--watch")
    assert "watch.jsonl" in out
    assert (tmp_path / "run" / "watch.jsonl").read_text().count("\n") >= 4


def test_info():
    facts = json.loads(run("info", "--json"))
    assert facts["packages"]["numpy"] == np.__version__
    assert "blas" in run("info")


def _csv(file: Path, header: str, rows: Iterable[Iterable[object]]) -> Path:
    lines = [",".join(str(cell) for cell in row) for row in rows]
    file.write_text("\n".join([header, *lines]) + "\n")
    return file


def test_a_table_of_constants_is_no_mistake_of_the_network(tmp_path):
    """Batch norm of equal rows is 0, so every relu sits on its kink: the rules are then checked beside that point."""
    file = _csv(tmp_path / "same.csv", "a,b,kind", [(3, 3, i % 2) for i in range(40)])
    out = run("train", file, "--dry-run", "--hidden", "8")
    assert "dL/dw is right" in out
    assert "the loss bends (units sit exactly on a kink), so rows and weights were moved" in out


def test_four_rows_under_batch_norm_are_verified_beside_them(tmp_path):
    file = _csv(tmp_path / "four.csv", "a,b,y", [(1, 2, 1.5), (2, 1, 2.5), (3, 4, 3.1), (4, 3, 4.7)])
    out = run("train", file, "--dry-run")
    assert "dL/dw is right" in out
    assert "the loss is too flat to be measured, so rows and weights were moved" in out


def test_a_wrong_gradient_is_found_on_a_table_of_constants_too():
    import chainrule as torch
    from chainrule.training.config import TrainConfig
    from chainrule.training.model import build
    from chainrule.training.verify import verify

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return 1.9 * ctx.saved_tensors[0] * g

    model = build(2, 1, TrainConfig(hidden=(8,)))
    x, y = np.zeros((28, 2), np.float32), np.ones((28, 1), np.float32)
    right = verify(model, lambda out, target: ((out - target) * (out - target)).mean(), x, y)
    wrong = verify(model, lambda out, target: Square.apply(out - target).mean(), x, y)
    assert (right.verdict, wrong.verdict) == ("PASS", "FAIL")


def test_the_deviation_shown_is_the_one_that_was_judged(tmp_path):
    """Relative to a derivative of 0 any rounding is large; as a part of what the error allows it stays below 1."""
    out = json.loads(run("train", "digits", "--dry-run", "--json", "--hidden", "8"))
    parts = [p["allowed"] for p in out["verification"]["parameters"]]
    assert 0 < max(parts) < 1
    assert f"largest deviation: {max(parts):.2g} of what" in run("train", "digits", "--dry-run", "--hidden", "8")


def test_time_left_does_not_count_the_first_steps(monkeypatch, capsys):
    from chainrule.cli import progress

    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    shown = progress.Plain(epochs=11, metric="accuracy")
    for epoch in range(1, 4):
        for step in range(5):
            clock[0] += 100 if (epoch, step) in ((1, 0), (1, 4)) else 1  # two sizes of batches are compiled
            shown.batch({"epoch": epoch})
        shown.epoch({"epoch": epoch, "loss": 1.0, "grad_norm": 1.0, "lr": 0.1, "samples_per_s": 10.0})
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[-1] for line in lines] == ["50 s left", "45 s left", "40 s left"]


def test_text_columns_are_categories_for_train_and_predict(tmp_path):
    rows = [(i % 7, "red" if i % 3 else "blue", "buy" if i % 3 else "sell") for i in range(60)]
    file = _csv(tmp_path / "colours.csv", "size,colour,kind", rows)
    assert "so name the target: --target colour" in run("train", file, code=2)
    folder = tmp_path / "run"
    out = run("train", file, "--target", "kind", "--no-verify", "--run-dir", folder)
    assert "3 features, 2 classes" in out
    assert "text columns, one feature for each value: colour (2 values)" in out
    new = _csv(tmp_path / "new.csv", "colour,size", [("red", 1), ("blue", 2)])
    assert [line.split(",")[1] for line in run("predict", folder, new).splitlines()] == ["kind", "buy", "sell"]
    unseen = _csv(tmp_path / "unseen.csv", "colour,size", [("red", 1), ("green", 2)])
    assert "'green' is none of the values it had in training" in run("predict", folder, unseen, code=2)
    assert "was finished already" in run("train", "--resume", folder)


def test_predict_does_not_speak_of_a_target(tmp_path):
    file = _csv(tmp_path / "t.csv", "a,b,kind", [(i, i % 5, "xy"[i % 2]) for i in range(40)])
    run("train", file, "--no-verify", "--epochs", 1, "--run-dir", tmp_path / "run")
    out = run("predict", tmp_path / "run", _csv(tmp_path / "n.csv", "a,b", [("big", 1), ("small", 2)]), code=2)
    assert "column 'a': 'big' is not a number" in out
    assert "--target" not in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("learning_rate = 0.1", "unknown setting 'learning_rate'; did you mean 'lr'?"),
        ("batchsize = 3", "unknown setting 'batchsize'; did you mean 'batch-size'?"),
        ("colours = 3", "unknown setting 'colours'; there are: data, target, hidden, activation"),
    ],
)
def test_an_unknown_setting_names_the_one_that_is_meant(tmp_path, line, said):
    file = tmp_path / "settings.toml"
    file.write_text(line + "\n")
    assert said in run("train", "digits", "--config", file, code=2)
