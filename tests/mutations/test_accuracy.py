"""A sample of the mutation corpus: every mistake is detected and named."""

from __future__ import annotations

import pytest

import chainrule.check as check
from chainrule.check import Verdict
from chainrule.check.structure import WrongGradient

from .corpus import KINDS, cases, cases_of
from .networks import NETWORKS, build

EVERY = {"lstm_cell": 40, "batch_norm_long": 40}
"""One case in so many, else in twenty: the whole corpus is scored by benchmarks/check_accuracy."""


def test_the_corpus_is_large_enough():
    corpus = list(cases())
    assert len(KINDS) >= 40
    assert len({c.operator.name for c in corpus}) >= 40
    assert sum(c.held_out for c in corpus) > 0.4 * len(corpus)


@pytest.mark.parametrize("name", NETWORKS)
def test_mistakes_are_detected_and_named(name):
    sample = list(cases_of(name))[7 :: EVERY.get(name, 20)]
    assert len(sample) >= 2
    for case in sample:
        try:
            report = check(case.network.f, case.network.point, grad=case.grad)
        except WrongGradient as error:
            first = error.kind
        else:
            assert report.verdict is Verdict.FAIL, case.name
            assert len(str(report).splitlines()) <= 30, case.name
            first = report.hypotheses[0].kind
        assert first in case.operator.expects, case.name


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_no_right_program_is_accused(name, scale):
    n = build(name, seed=5)
    report = check(lambda p: scale * n.f(p), n.point, grad=lambda p: {k: scale * v for k, v in n.grad(p).items()})
    assert report.verdict is Verdict.PASS, str(report)
