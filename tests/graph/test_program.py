"""Recording, verifying, simplifying and interpreting programs."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as torch
from chainrule.core.op import registry
from chainrule.errors import OpError
from chainrule.graph.program import Instr, Program, Value
from chainrule.graph.simplify import common, dead_code, fold, simplify
from chainrule.graph.trace import Recorder
from chainrule.graph.verify import run, verify


def _f32(*shape):
    return Value(shape, np.dtype("float32"))


def _step(W, x, y):
    loss = ((x @ W - y) ** 2).mean()
    W.grad = None
    loss.backward()
    with torch.no_grad():
        W -= 0.1 * W.grad
    return loss


def _data():
    rng = np.random.default_rng(0)
    W = torch.tensor(rng.normal(size=(3, 2)).astype("float32"), requires_grad=True)
    return W, torch.tensor(rng.normal(size=(4, 3)).astype("float32")), torch.zeros(4, 2)


def test_a_training_step_is_recorded_with_its_update():
    W, x, y = _data()
    before = W.detach().clone()
    recorder = Recorder()
    recorder.input(x, "x")
    recorder.input(y, "y")
    with recorder:
        loss = _step(W, x, y)
    program = verify(recorder.finish([loss]))
    ((memory, _),) = program.updates
    assert program.constants[memory] is W._array
    after = W.detach().clone()
    W._array[...] = before._array  # the program reads the parameter's memory
    (again,) = run(program, [x._array, y._array], update=True)
    assert again == loss.item()
    np.testing.assert_array_equal(W._array, after._array)
    assert all(i.place is not None and i.place.filename == __file__ for i in program.instrs)


def test_every_run_of_a_recorded_step_is_the_eager_step():
    W, x, y = _data()
    V = W.detach().clone().requires_grad_()
    recorder = Recorder()
    with recorder:
        _step(W, x, y)
    program = recorder.finish([])
    _step(V, x, y)
    for _ in range(5):
        run(program, [], update=True)
        _step(V, x, y)
    np.testing.assert_array_equal(W._array, V._array)


def test_writes_through_views_reach_the_base():
    x = torch.zeros(2, 3)
    a = torch.ones(3)
    recorder = Recorder()
    recorder.input(a, "a")
    with recorder:
        x[0] = a * 2
        x.t()[1] += 5.0
        y = x * 1.0
    program = verify(recorder.finish([y]))
    assert len(program.updates) == 1
    expected = y._array.copy()
    x._array[...] = 0
    np.testing.assert_array_equal(run(program, [a._array])[0], expected)


def test_live_scalars_are_fetched_anew():
    rate = [0.5]
    recorder = Recorder()
    with recorder:
        r = recorder.live(lambda: rate[0], np.float32)
        y = torch.ones(2) * r
    program = recorder.finish([y])
    ((value, getter),) = recorder.live_inputs
    assert program.inputs == [value]
    rate[0] = 2.0
    np.testing.assert_array_equal(run(program, [np.asarray(getter(), np.float32)])[0], [2.0, 2.0])


def test_leaks_are_noticed_and_strict_ones_raise():
    recorder = Recorder()
    with recorder:
        torch.ones(1).item()
    assert [leak.what for leak in recorder.leaks] == ["item"]
    with pytest.raises(OpError, match=r"called \.item\(\)[\s\S]*torch\.ones\(1\)\.item\(\)"), Recorder(strict=True):
        torch.ones(1).item()


def test_the_recorder_is_gone_afterwards_even_after_an_error():
    recorder = Recorder()
    with pytest.raises(ZeroDivisionError), recorder:
        raise ZeroDivisionError
    torch.ones(1) + 1
    assert not recorder.program.instrs


def _ops():
    return registry["mul"], registry["add"], registry["expand"]


def test_constants_fold_and_ones_vanish():
    mul, _, expand = _ops()
    x, one, ones, out = _f32(2, 3), _f32(), _f32(2, 3), _f32(2, 3)
    program = Program(inputs=[x], constants={one: np.ones((), np.float32)}, outputs=[out])
    program.instrs = [Instr(expand, (one,), {"shape": (2, 3)}, (ones,)), Instr(mul, (ones, x), {}, (out,))]
    fold(program, [one])
    assert program.instrs == []
    assert program.outputs == [x]


def test_a_constant_that_is_memory_is_never_folded():
    mul, _, _ = _ops()
    w, out = _f32(2), _f32(2)
    program = Program(constants={w: np.ones(2, np.float32)}, outputs=[out])
    program.instrs = [Instr(mul, (w, 2.0), {}, (out,))]
    simplify(program)
    assert len(program.instrs) == 1


def test_equal_instructions_are_computed_once_and_unread_ones_not_at_all():
    mul, add, _ = _ops()
    x, a, b, c, out = _f32(2), _f32(2), _f32(2), _f32(2), _f32(2)
    program = Program(inputs=[x], outputs=[out])
    program.instrs = [
        Instr(mul, (x, 2.0), {}, (a,)),
        Instr(mul, (x, 2.0), {}, (b,)),
        Instr(mul, (x, 2), {}, (c,)),  # another type of number: not the same instruction
        Instr(add, (a, b), {}, (out,)),
    ]
    common(program)
    dead_code(program)
    assert [i.op.name for i in program.instrs] == ["mul", "add"]
    np.testing.assert_array_equal(run(verify(program), [np.ones(2, np.float32)])[0], [4, 4])


def test_verify_names_what_is_wrong():
    mul, _, _ = _ops()
    x, y, out = _f32(2), _f32(2), _f32(2)
    with pytest.raises(OpError, match=r"instruction 0 \(mul\) reads .* before it is made"):
        verify(Program(inputs=[x], instrs=[Instr(mul, (x, y), {}, (out,))], outputs=[out]))
    with pytest.raises(OpError, match="a second time"):
        verify(Program(inputs=[x], instrs=[Instr(mul, (x, 2), {}, (out,)), Instr(mul, (x, 2), {}, (out,))]))
    with pytest.raises(OpError, match=r"output .* is never made"):
        verify(Program(inputs=[x], outputs=[y]))
    with pytest.raises(OpError, match="is bound to an array"):
        verify(Program(constants={x: np.ones(3, np.float32)}))
