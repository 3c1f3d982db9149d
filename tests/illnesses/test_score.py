"""The corpus: every tuned fault by name, and the score of both halves."""

from __future__ import annotations

import functools

import pytest

from .score import Result, cases, held_out, run, summary

_ALL = {c.name: c for c in cases("chainrule")}
_TUNED = [n for n in _ALL if not held_out(n)]


@functools.cache
def _result(name: str) -> Result:
    return run(_ALL[name])


def test_the_corpus_is_as_large_as_it_says() -> None:
    kinds = [bool(c.expected) for c in _ALL.values()]
    assert kinds.count(True) >= 60
    # with PyTorch's copies of the same networks there are twice as many
    assert 2 * kinds.count(False) >= 60
    assert 0.4 < sum(map(held_out, _ALL)) / len(_ALL) < 0.6


@pytest.mark.parametrize("name", [n for n in _TUNED if _ALL[n].expected])
def test_the_planted_fault_comes_first(name: str) -> None:
    result = _result(name)
    assert not result.error
    assert result.right_first, (result.codes, _ALL[name].expected)


@pytest.mark.parametrize("name", [n for n in _TUNED if not _ALL[n].expected])
def test_nothing_is_found_in_a_healthy_network(name: str) -> None:
    result = _result(name)
    assert not result.error
    assert result.codes == []


@pytest.mark.parametrize("half", ["tuned", "held out"])
def test_score(half: str) -> None:
    s = summary([_result(n) for n in _ALL if held_out(n) == (half == "held out")])
    assert s["precision"] >= 0.95
    assert s["recall"] >= 0.95
    assert s["cause first"] >= 0.9
