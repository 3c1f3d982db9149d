"""What native code says about arguments is what the same questions in Python say."""

import numpy as np
import pytest
from tests.compile.programs import record

import chainrule as torch
from chainrule.compile import fits, link, passes
from chainrule.compile.decompose import Check
from chainrule.graph.program import Value

F = torch.nn.functional


def linked(function, arrays):
    program, _ = record(function, arrays)
    lowered, checks = passes.lower(program, set())
    return link.Step(lowered, checks=checks)


def says(step, *arrays):
    """Whether the arrays fit: the native answer, which must be Python's, too."""
    answer = step.check(*arrays)
    assert answer is step.check_plain(*arrays)
    return {step.yes: True, step.no: False}[answer]


def test_arrays_are_as_recorded_or_do_not_fit():
    x, y = np.ones((3, 4), np.float32), np.ones((4,))
    step = linked(lambda x, y: (x * 2, y + 1), [x, y])
    assert says(step, x, y)
    for other in (
        np.ones((3, 4)), np.ones((4, 3), np.float32), np.ones((3, 4, 1), np.float32), np.ones(12, np.float32),
        np.ones((4, 3), np.float32).T, np.ones((3, 8), np.float32)[:, ::2], np.ones((0, 4), np.float32),
        np.ones((3, 4), ">f4"), np.ones((3, 4), np.int32), [1.0], 3.0, None,
    ):  # fmt: skip
        assert not says(step, other, y), other
        assert not says(step, x, other), other
    assert step.check(x) is step.check(x, y, y) is step.check() is step.no


def test_strides_of_one_row_and_of_no_rows_do_not_matter():
    wide = np.ones((4, 6), np.float32)
    step = linked(lambda x: x * 2, [np.ones((1, 6), np.float32)])
    assert says(step, wide[::4])
    empty = linked(lambda x: x * 2, [np.ones((0, 6), np.float32)])
    assert says(empty, wide[:0])
    assert not says(empty, wide)
    scalar = linked(lambda x: x * 2, [np.ones((), np.float32)])
    assert says(scalar, np.ones(5, np.float32)[3:4].reshape(()))


def test_what_is_written_must_be_writeable():
    x = np.ones(3)

    def double(t):
        t.mul_(2)
        return t + 1

    step = linked(double, [x])
    assert says(step, x)
    x.flags.writeable = False
    assert not says(step, x)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_arrays_that_the_step_writes_elsewhere_do_not_fit(shape):
    w = torch.zeros(2, 3, 4)

    def step_of(x):
        w.mul_(2)
        return x + 1

    x = np.ones(shape, np.float32)
    step = linked(step_of, [x])
    assert says(step, x)
    assert not says(step, np.lib.stride_tricks.as_strided(w.numpy(), shape, x.strides))
    behind = np.ones(25, np.float32)[1:].reshape(2, 3, 4)
    assert says(step, np.lib.stride_tricks.as_strided(behind, shape, x.strides))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.int8])
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 4), (2, 3, 5)])
def test_indices_are_in_range(dtype, shape):
    w, i = np.ones((6, 2)), np.zeros(shape, dtype)
    step = linked(lambda w, i: w[i.to(torch.int64)], [w, i])
    assert says(step, w, i)
    for place in np.ndindex(shape):
        for value in (0, 5, 6, 100, -1, -6, -7, -128):
            i[place] = np.array(value).astype(dtype)
            assert says(step, w, i) is bool(-6 <= i[place] < 6)
        i[place] = 0


def test_indices_that_are_a_view_of_an_argument_are_looked_at_where_they_are():
    w, i = np.ones((6, 2)), np.zeros((4, 3, 5), np.int64)
    step = linked(lambda w, i: w[i[1:, ::2, 3]], [w, i])
    for place in np.ndindex(i.shape):
        i[place] = 9
        read = place[0] >= 1 and place[1] % 2 == 0 and place[2] == 3
        assert says(step, w, i) is not read
        i[place] = 0


@pytest.mark.parametrize("ignore", [-100, -1, 0, 2, 5, 6])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"reduction": "sum"}])
def test_targets_that_are_ignored(ignore, options):
    x, t = np.ones((4, 5), np.float32), np.ones(4, np.int64)
    step = linked(lambda x, t: F.cross_entropy(x, t, ignore_index=ignore, **options), [x, t])
    ignored_fits = "label_smoothing" in options  # the plain mean and sum are recorded for batches without ignored rows
    ignored_fits |= not step.checks[0].plain
    for value in (-100, -2, -1, *range(8)):
        t[2] = value
        assert says(step, x, t) is (ignored_fits if value == ignore else 0 <= value < 5)


@pytest.mark.parametrize("ignore", [None, -1, 5, 3])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("low", [0, -5])
def test_exceptions_to_a_range(ignore, plain, low):
    check = Check(Value((), np.dtype(int)), 5, ignore, plain, low)
    also, never = fits.exceptions(check)
    for x in range(-8, 9):
        inside = check.low <= x < check.classes
        wanted = inside and x != check.ignore if check.plain else inside or x == check.ignore
        assert ((inside or x == also) and x != never) is wanted


@pytest.mark.parametrize(
    ("shape", "strides", "runs"),
    [
        ((), (), [(1, 0)]), ((7,), (2,), [(7, 2)]), ((3, 4), (4, 1), [(12, 1)]), ((3, 4), (8, 2), [(12, 2)]),
        ((3, 4), (1, 3), [(3, 1), (4, 3)]), ((2, 1, 3), (3, 9, 1), [(6, 1)]),
        ((2, 3, 4), (24, 4, 1), [(2, 24), (12, 1)]),
    ],
)  # fmt: skip
def test_dims_behind_each_other_are_one(shape, strides, runs):
    assert fits.runs(shape, strides) == runs
