"""The gallery: every demo runs in time, the cure works, and there are three sentences and a picture."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from chainrule.cli import main
from chainrule.demo import DEMOS, run_demo


@pytest.mark.parametrize("name", DEMOS)
def test_the_cure_is_better_than_the_illness(name: str, tmp_path: Any) -> None:
    outcome = run_demo(name)
    assert outcome.seconds < 20
    assert outcome.cured.accuracy > 0.8
    assert outcome.cured.accuracy > outcome.ill.accuracy + 0.3
    assert len(outcome.sentences) == 3
    assert "│" in str(outcome)
    ElementTree.fromstring(outcome.svg())


def test_the_residual_demo_shows_the_spectrum() -> None:
    outcome = run_demo("residual")
    title, _, series, _ = outcome.panels[-1]
    assert "branches" in title
    assert sum(list(series.values())[-1]) == pytest.approx(1.0)


def test_the_command(tmp_path: Any) -> None:
    file = tmp_path / "picture.svg"
    result = CliRunner().invoke(main, ["demo", "vanishing", "--save", str(file)])
    assert result.exit_code == 0
    assert "1. " in result.output
    assert "3. " in result.output
    ElementTree.fromstring(file.read_text(encoding="utf-8"))
