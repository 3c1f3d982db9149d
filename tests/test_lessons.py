"""The lessons run as they stand; each asserts what it teaches."""

import runpy
from pathlib import Path

import pytest

LESSONS = sorted((Path(__file__).parent.parent / "lessons").glob("*.py"))


def test_there_are_lessons():
    assert len(LESSONS) == 5


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda p: p.stem)
def test_lesson(lesson, capsys):
    runpy.run_path(str(lesson), run_name="__main__")
    assert capsys.readouterr().out
