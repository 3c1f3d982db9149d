"""Thousands of random programs: each is compiled, run between guard pages and compared with eager execution.

A fourth of them runs unfused, too; a twentieth is compiled a second time as users' steps are, with LLVM's
optimisation, and must give the same bits. The run says at its end how many programs and ops there were.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from tests.compile.agree import Found, Refused, again_with_other_data, run_case
from tests.compile.generate import OPS, make_case, with_op
from tests.compile.programs import record, run
from tests.compile.training import make_training, trained

import chainrule as torch
from chainrule.core.variable import wrap

BLOCKS, GRAPHS, TRAININGS = 25, 80, 15
TIES = 2
"""Programs of a block in which a comparison may go the other way with rounding: they agree on other numbers."""


@st.composite
def cases(draw):
    """A random program, from numbers that Hypothesis draws and makes smaller."""
    return make_case(lambda n: draw(st.integers(0, n - 1)))


@st.composite
def trainings(draw):
    """A random training step."""
    return make_training(lambda n: draw(st.integers(0, n - 1)))


class Block:
    """Distinct programs that were compared, and what was found in them."""

    def __init__(self):
        self.seen, self.found, self.ties = set(), Found(), 0

    def check(self, case):
        if case in self.seen:
            return
        n = len(self.seen)
        try:
            run_case(case, self.found, (True,) if n % 4 else (True, False), optimised=n % 20 == 0)
        except Refused:
            assume(False)
        except AssertionError:
            self.ties += 1
            if self.ties > TIES or again_with_other_data(case):
                raise
        self.seen.add(case)

    def report(self, record_property):
        record_property("random graphs", len(self.seen))
        record_property("random ops", sorted(self.found.ops))


def test_thousands_are_promised():
    assert BLOCKS * GRAPHS >= 2000


@pytest.mark.parametrize("number", range(BLOCKS))
def test_random_programs(number, record_property):
    block = Block()

    @seed(number)
    @settings(max_examples=GRAPHS + 8, deadline=None, suppress_health_check=list(HealthCheck), database=None,
              phases=[Phase.generate, Phase.shrink])  # fmt: skip
    @given(cases())
    def check(case):
        block.check(case)

    check()
    assert len(block.seen) >= GRAPHS
    assert block.found.optimised >= GRAPHS // 20
    block.report(record_property)


@pytest.mark.parametrize("letter", sorted({name[0] for name in OPS}))
def test_every_op_of_the_registry_in_a_random_program(letter, record_property):
    block = Block()
    for name in OPS:
        if name[0] != letter:
            continue
        rng = np.random.default_rng(len(name))
        for which in range(20):
            case = with_op(make_case(lambda n, rng=rng: int(rng.integers(0, n)), 6), name, which)
            try:
                before = len(block.seen)
                block.check(case)
            except BaseException as error:
                error.add_note(repr(case))
                raise
            if name in block.found.ops and len(block.seen) > before:
                break
        assert name in block.found.ops, name
    block.report(record_property)


@pytest.mark.parametrize("number", range(4))
def test_random_training_steps(number, record_property):
    seen = set()

    @seed(number)
    @settings(max_examples=TRAININGS + 2, deadline=None, suppress_health_check=list(HealthCheck), database=None,
              phases=[Phase.generate, Phase.shrink])  # fmt: skip
    @given(trainings())
    def check(case):
        losses, parameters = trained(case, compiled=True)
        expected, theirs = trained(case, compiled=False)
        np.testing.assert_allclose(losses, expected, rtol=1e-9)
        for p, q in zip(parameters, theirs, strict=True):
            # Optimizers that divide by a gradient's size make whole steps of one that is 0 but for rounding.
            np.testing.assert_allclose(p, q, rtol=1e-6, atol=1e-6)
        seen.add(case)

    check()
    assert len(seen) >= TRAININGS
    record_property("random graphs", len(seen))


def test_what_reads_arrays_without_entries():
    for f, shape in [
        (lambda t: torch.autograd.grad((t * 0.1 + 1).prod(-1).sum(), t)[0], (1,)),
        (lambda t: torch.nn.functional.pad(t[:0], (1, 2), value=1.5), (3,)),
        (lambda t: torch.cat([t[:0], t, t[2:2]]), (4,)),
        (lambda t: t.index_select(0, torch.zeros(0, dtype=torch.int64)).sum() + t, (2, 3)),
    ]:
        x = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)

        def g(t, f=f):
            with torch.enable_grad():
                return f(wrap(t._array, None, True)).detach()

        program, (expected,) = record(g, [x])
        for fuse in (True, False):
            (got,), _ = run(program, [x], fuse=fuse)
            np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_what_only_an_array_without_entries_reads():
    def written(t):
        copy = t.clone()
        copy[0] = copy[0] * 2 + 1
        return copy

    for f in [
        written,
        torch.exp,
        lambda t: torch.cat([t * 2, t + 1]),
        lambda t: torch.cat([torch.cat([t * 2, t]).exp(), t]),
        lambda t: torch.stack([t * 2, t + 1])[0],
        lambda t: t @ t.T,
        lambda t: t.sum(0, keepdim=True),
        lambda t: t.cumsum(0),
        lambda t: t.flip(0),
        lambda t: t[torch.tensor([1, 0])],
        lambda t: torch.nn.functional.pad(t, (1, 2)),
        lambda t: torch.nn.functional.max_pool2d(t[None, None], 2)[0, 0],
        lambda t: t.sort(0).values,
    ]:
        x = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
        for read, names in [
            (lambda nothing, t: (nothing * 2, t * 3), ["mul"]),
            (lambda nothing, t: (torch.cat([nothing[:1], t[:1]], 1), nothing.sum() + t), ["add", "cat", "sum"]),
        ]:
            program, expected = record(lambda t, f=f, read=read: read(f(t)[:, :0], t), [x])
            for fuse in (True, False):
                got, step = run(program, [x], fuse=fuse)
                for a, b in zip(got, expected, strict=True):
                    np.testing.assert_array_equal(a, b)
                # Nothing of what the empty array was cut from is computed.
                assert sorted(node.name for group in step.groups for node in group.nodes) == names
