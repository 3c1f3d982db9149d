"""A sample of the mutation corpus: every mistake is detected, and nearly every one is named."""

from __future__ import annotations

import pytest

import chainrule.check as check
from chainrule.check import Verdict
from chainrule.check.structure import WrongGradient

from .corpus import KINDS, cases
from .networks import NETWORKS, build

EVERY = 15  # one case in fifteen: the whole corpus is scored by benchmarks/check_accuracy


@pytest.fixture(scope="module")
def corpus():
    return list(cases())


def test_the_corpus_is_large_enough(corpus):
    assert len(KINDS) >= 40
    assert len({c.operator.name for c in corpus}) >= 40
    assert sum(c.held_out for c in corpus) > 0.4 * len(corpus)


def test_mistakes_are_detected_and_named(corpus):
    missed, misnamed, count = [], [], 0
    for case in corpus[::EVERY]:
        count += 1
        try:
            report = check(case.network.f, case.network.point, grad=case.grad)
        except WrongGradient as error:
            first = error.kind
        else:
            if report.verdict is not Verdict.FAIL:
                missed.append(case.name)
            first = report.hypotheses[0].kind
            assert len(str(report).splitlines()) <= 30
        if first not in case.operator.expects:
            misnamed.append(f"{case.name}: {first}")
    assert not missed
    assert len(misnamed) <= 0.05 * count, misnamed


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_no_right_program_is_accused(name, scale):
    n = build(name, seed=5)
    report = check(lambda p: scale * n.f(p), n.point, grad=lambda p: {k: scale * v for k, v in n.grad(p).items()})
    assert report.verdict is Verdict.PASS, str(report)
