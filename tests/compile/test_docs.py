"""The examples of docs/compile.md run."""

import doctest
from pathlib import Path


def test_examples():
    file = Path(__file__).parents[2] / "docs" / "compile.md"
    failed, tried = doctest.testfile(str(file), module_relative=False)
    assert tried > 15
    assert not failed
