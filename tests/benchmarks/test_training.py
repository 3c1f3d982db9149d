"""The benchmark's programs compute the same: chainrule compiled, eager, and NumPy by hand. Nothing is timed."""

import importlib.util
import json

import numpy as np
import pytest
from benchmarks.training import peers, report
from benchmarks.training.__main__ import main
from benchmarks.training.workloads import FUNCTIONS, GRID, TRAINING, data, fill, matrix_flops, parameters, workload
from click.testing import CliRunner

SLOW = {"d": "adam", "e": "sgd", "f": "adam", "g": "sgd", "h": "adam"}
"""Seconds to compile or to run: one optimizer each, between them both."""
STEPS = [pytest.param(k, o) for k in TRAINING if k not in SLOW for o in ("sgd", "adam")]
STEPS += [pytest.param(k, o, marks=[pytest.mark.slow]) for k, o in SLOW.items()]
CELLS = [pytest.param(k, "sgd", marks=[pytest.mark.slow] if "1024" in k else []) for k in GRID]


@pytest.fixture(autouse=True)
def no_disk_cache(monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", "")


def losses(library, name, steps=2):
    step = peers.prepare(library, name)
    look = getattr(step, "look", float)
    return [look(step()) for _ in range(steps)]


# Sums in another order: 1e-6 of a loss around 1 after two steps; e's 50 normalised layers amplify it.
@pytest.mark.parametrize(("key", "optimizer"), STEPS + CELLS)
def test_steps_agree(key, optimizer):
    name = f"{key}/{optimizer}"
    w, _ = workload(name)
    eager = losses("eager", name)
    assert np.isfinite(eager).all()
    assert eager[0] != eager[1]
    for library in ("chainrule", "numpy"):
        if library == "chainrule" or peers.supports(library, w, optimizer):
            np.testing.assert_allclose(losses(library, name), eager, rtol=1e-5, err_msg=library)


@pytest.mark.parametrize("key", FUNCTIONS)
def test_functions_agree(key):
    eager = losses("eager", key, 1)
    for library in ("chainrule", "numpy"):
        if library == "chainrule" or peers.supports(library, FUNCTIONS[key], ""):
            np.testing.assert_allclose(losses(library, key, 1), eager, rtol=1e-4, err_msg=library)


@pytest.mark.parametrize("key", TRAINING)
def test_parameters_are_those_of_the_model(key):
    from benchmarks.training.peers.models import build

    import chainrule as torch

    w = TRAINING[key]
    shapes, names = parameters(w)
    model = build(torch, w)
    assert [tuple(p.shape) for p in model.parameters()] == shapes
    for p, start in zip(model.parameters(), fill(shapes, names), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), start)


def test_matrix_flops_of_a_small_mlp():
    # 2-16-16-1 with 32 rows: forward and weights' gradients of all layers, the input's gradient of all but the first.
    forward = 2 * 32 * (2 * 16 + 16 * 16 + 16 * 1)
    assert matrix_flops(TRAINING["a"]) == 3 * forward - 2 * 32 * 2 * 16


def test_data_is_the_same_in_every_process():
    x, y = data(TRAINING["b"])
    again, _ = data(TRAINING["b"])
    np.testing.assert_array_equal(x, again)
    assert x.dtype == np.float32
    assert y.shape == (32,)


def test_a_peer_that_is_not_installed_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install jax" in peers.missing("jax.jit")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "z"], "'z' is not one of"),
        (["--peers", "caffe"], "'caffe' is not one of"),
        (["--plot", "out.txt"], "ends in .svg, .png or .pdf"),
        (["--threads", "0"], "'0' is not one of"),
    ],
)
def test_bad_input_is_named(arguments, words):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_a_foreign_json_file_is_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"rows": []}))
    result = CliRunner().invoke(main, ["--from", str(path)])
    assert result.exit_code == 1
    assert "was not written by --json" in result.output


def _row(**changes):
    ratios = {"torch": {"median": 8.0, "low": 7.0, "high": 9.0, "quiet": 8.5, "by_cpu": False}}
    ratios["eager"] = {"median": 2.0, "low": 2.0, "high": 2.0, "quiet": 2.0, "by_cpu": True}
    row = {
        "workload": "a/sgd", "key": "a", "title": "MLP", "optimizer": "sgd", "threads": 1, "moved": 0,
        "peak_flops": 10**6, "us": {"chainrule": 10.0, "torch": 80.0}, "failed": {"jax.jit": "did not finish in 9 s"},
        "differs": {"torch": 0.0, "chainrule": 1e-3}, "tolerances": {"torch": 1e-4, "chainrule": 1e-4},
        "checked": {"chainrule": 50}, "reference": "torch", "by_cpu": {}, "cold": {}, "memory": {}, "peak": {},
        "goals": {"chainrule": 7.0}, "ratios": {"chainrule": ratios},
    }  # fmt: skip
    return row | changes


def test_table_says_ratio_goal_failure_and_disagreement():
    text = report.line(_row(), ["chainrule", "torch", "jax.jit", "eager"], {1: {"sgemm": 1e12}})
    assert "8.00 (7.00–9.00) torch" in text  # chainrule's own eager mode is no peer
    assert "≥ 7 ✓" in text
    assert "10%" in text
    assert "jax.jit: did not finish in 9 s" in text
    assert "DIFFERS from torch by 1.0e-03" in text
    assert "≥ 9 ✗" in report.line(_row(goals={"chainrule": 9.0}), ["chainrule", "torch"], {})
    assert "**8.00** (7.00–9.00) torch" in report.markdown([_row()], {}, "command")
