"""Several threads: the same numbers, no part left out, and no harm from forks or changes of their number."""

import os
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from tests.compile.programs import record, run

import chainrule as torch
from chainrule.compile import split, workers
from chainrule.ops.conv import conv_weight

F = torch.nn.functional
WINDOWS = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
RNG = np.random.default_rng(0)
pytestmark = pytest.mark.skipif(not workers.available(), reason="the pool is made of POSIX threads")


@pytest.fixture(params=[2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def everything(monkeypatch):
    """Split whatever can be split, however small."""
    monkeypatch.setattr(split, "WORTH", 0.0)


PROGRAMS = {
    "product": (lambda a, b: torch.relu(a @ b.T + 1), [(97, 64), (33, 64)]),
    "transposed": (lambda a, b: a.T @ b, [(200, 96), (200, 40)]),
    "batched": (lambda a, b: torch.softmax(a @ b.mT, -1), [(6, 4, 32, 16), (6, 4, 32, 16)]),
    "few of a batch": (lambda a, b: torch.relu(a @ b + 1), [(3, 6, 39), (3, 39, 57)]),
    "one B for a batch": (lambda a, b: a @ b + b[0], [(8, 16, 24), (24, 24)]),
    "rows": (lambda a: torch.nn.functional.layer_norm(a, (48,)), [(64, 48)]),
    "chain": (lambda a: (a.exp() + 1).log().tanh(), [(16, 4, 33)]),
    "over columns": (lambda a: a.amax(0), [(30, 40)]),
    "other shapes": (lambda a: (a * 2).reshape(8, 4, 32).sum(-1), [(32, 32)]),
    "convolution": (lambda x, w: torch.relu(F.conv2d(x, w, stride=2, padding=1) + 1), [(96, 3, 9, 8), (5, 3, 3, 3)]),
    "transposed convolution": (lambda x, w: F.conv_transpose2d(x, w, stride=2), [(96, 4, 5, 4), (4, 3, 3, 2)]),
    "gradient of weights": (lambda x, y: conv_weight(x, y, kernel=(3, 2), **WINDOWS), [(16, 3, 7, 6), (16, 13, 5, 5)]),
    "pooling": (lambda x: F.avg_pool2d(x.exp(), 3, 2, 1), [(96, 3, 7, 8)]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_parts_give_what_the_whole_gives(name, threads, everything):
    f, shapes = PROGRAMS[name]
    arrays = [RNG.normal(size=s).astype(np.float32) for s in shapes]
    program, _ = record(f, arrays)
    (got,), step = run(program, arrays)
    assert step.threads == threads
    torch.set_num_threads(1)
    (alone,), whole = run(program, arrays)
    assert max(len(parts) for parts in whole.kernels) == 1
    np.testing.assert_array_equal(got, alone)
    if name not in ("over columns", "few of a batch"):
        assert any(len(parts) == threads for parts in step.kernels)


def training(optimizer):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(40, 64), torch.nn.GELU(), torch.nn.LayerNorm(64), torch.nn.Linear(64, 10)
    )
    opt = getattr(torch.optim, optimizer)(model.parameters(), lr=0.01)

    @torch.compile
    def step(x, y):
        opt.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return step


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_training_gives_the_same_losses_to_the_bit(optimizer, threads, everything):
    x, y = torch.tensor(RNG.normal(size=(60, 40)).astype(np.float32)), torch.tensor(RNG.integers(0, 10, 60))
    step = training(optimizer)
    several = [step(x, y).item() for _ in range(6)]
    torch.set_num_threads(1)
    step = training(optimizer)
    assert several == [step(x, y).item() for _ in range(6)]


def test_the_number_may_change_between_steps(everything):
    x, y = torch.tensor(RNG.normal(size=(60, 40)).astype(np.float32)), torch.tensor(RNG.integers(0, 10, 60))
    before = torch.get_num_threads()
    try:
        step, losses = training("SGD"), []
        for count in (2, 1, 3, 2, 2, 1):
            torch.set_num_threads(count)
            losses.append(step(x, y).item())
        step = training("SGD")
        # A change records again, and what records runs eagerly, whose sums round differently.
        np.testing.assert_allclose(losses, [step(x, y).item() for _ in range(6)], rtol=1e-6)
    finally:
        torch.set_num_threads(before)


def test_sleeping_threads_wake(threads, everything):
    import time

    arrays = [RNG.normal(size=(64, 64)).astype(np.float32)] * 2
    program, _ = record(lambda a, b: a @ b, arrays)
    for pause in (0.0, 0.05, 0.0):  # longer than they spin
        time.sleep(pause)
        (got,), _ = run(program, arrays)
        np.testing.assert_allclose(got, arrays[0] @ arrays[1], rtol=1e-4, atol=1e-4)


def comes_back(script):
    """The script, in a process of its own, says that it is done. One that hangs, or a child of it, is ended."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (run.returncode, run.stdout.strip()) == (0, "done"), run.stderr


SCRIPT = """
import os, signal
import numpy as np
import chainrule as torch
from chainrule.compile import split
split.WORTH = 0.0
torch.set_num_threads(2)
f = torch.compile(lambda a: (a @ a).relu())
a = torch.tensor(np.random.default_rng(0).normal(size=(64, 64)))
first = f(a).numpy()
child = os.fork()
if child == 0:
    signal.alarm(60)
    same = np.array_equal(f(a).numpy(), first)  # without threads: they stayed behind
    os._exit(0 if same else 3)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(f(a).numpy(), first)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_and_the_end_of_the_program():
    comes_back(SCRIPT)


CHANGES = """
import sys, threading
import chainrule as torch
from chainrule.compile import split
split.WORTH = 0.0
sys.setswitchinterval(1e-6)
f = torch.compile(lambda a: (a @ a).relu())
a = torch.ones(64, 64)
for n in (1, 2, 3):
    torch.set_num_threads(n)
    f(a)
ended = threading.Event()
def steps():
    while not ended.is_set():
        f(a)
thread = threading.Thread(target=steps)
thread.start()
for i in range(60):
    torch.set_num_threads(2 + i % 2)
    f(a)
ended.set()
thread.join()
print("done")
"""


def test_the_number_may_change_while_steps_run():
    # A step that waited for a thread which still needed Python's lock to begin never came back.
    comes_back(CHANGES)


LATE = """
import threading
import chainrule as torch
from chainrule.compile import split, workers
split.WORTH = 0.0
f = torch.compile(lambda a: (a @ a).relu())
a = torch.ones(64, 64)
for n in (2, 3):
    torch.set_num_threads(n)
    f(a)
pool, come, go = workers.pool(), threading.Event(), threading.Event()
work = pool._work
def late(*arguments):
    come.set()
    go.wait()
    work(*arguments)
pool._work = late
change = threading.Thread(target=torch.set_num_threads, args=(2,))
change.start()
come.wait()
assert f(a)[0, 0].item() == 64.0  # the thread is still in Python
go.set()
change.join()
assert f(a)[0, 0].item() == 64.0
print("done")
"""


def test_a_step_does_not_wait_for_a_thread_that_has_not_begun():
    comes_back(LATE)


FORKED = """
import os, signal, threading
import chainrule as torch
from chainrule.compile import workers
pool, come, go = workers.pool(), threading.Event(), threading.Event()
work = pool._work
def late(*arguments):
    come.set()
    go.wait()
    work(*arguments)
pool._work = late
change = threading.Thread(target=torch.set_num_threads, args=(torch.get_num_threads() + 1,))
change.start()
come.wait()
child = os.fork()  # the lock of the change that is under way comes along, the thread that holds it does not
if child == 0:
    signal.alarm(60)
    pool._work = work
    torch.set_num_threads(4)
    os._exit(0 if len(pool.workers) == 3 else 3)
status = os.waitpid(child, 0)[1]
go.set()
change.join()
assert status == 0, status
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_during_a_change():
    comes_back(FORKED)


ENDED = """
import atexit, threading
import chainrule as torch
from chainrule.compile import split
split.WORTH = 0.0
f = torch.compile(lambda a: (a @ a).relu())
a = torch.ones(64, 64)
def last():  # runs after the pool's end, since it is registered before
    torch.set_num_threads(3)
    assert f(a)[0, 0].item() == 64.0
    assert not [t for t in threading.enumerate() if t.name.startswith("chainrule-")]
    print("done")
atexit.register(last)
torch.set_num_threads(2)
f(a)
"""


def test_no_threads_begin_after_the_end_of_the_program():
    comes_back(ENDED)


@pytest.fixture
def pool():
    """The pool with one thread; later as it was."""
    before, pool = torch.get_num_threads(), workers.pool()
    torch.set_num_threads(1)
    yield pool
    torch.set_num_threads(before)


def test_of_two_changes_the_later_one_counts(pool, monkeypatch):
    come, go, resize = threading.Event(), threading.Event(), workers.Pool.resize

    def slow(self):
        if threading.current_thread() is first:
            come.set()
            go.wait()
        resize(self)

    monkeypatch.setattr(workers.Pool, "resize", slow)
    first = threading.Thread(target=torch.set_num_threads, args=(2,))
    first.start()
    come.wait()
    torch.set_num_threads(3)
    go.set()
    first.join()
    assert torch.get_num_threads() == pool.words[workers.Word.COUNT] == len(pool.workers) + 1 == 3


def test_threads_that_do_not_begin_are_reported(pool, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(workers, "TURNS", 20)
        patch.setattr(pool, "_work", lambda *_: None)
        with pytest.raises(RuntimeError) as caught:
            torch.set_num_threads(3)
    assert str(caught.value).splitlines() == [
        "set_num_threads: threads of compiled steps did not begin",
        "  2 threads, looked 20 times",
        (
            "  Call set_num_threads(1) before the first compiled step, or see what keeps threads of this process from "
            "running."
        ),
    ]
    assert pool.words[workers.Word.COUNT] == 1
    torch.set_num_threads(3)
    assert pool.words[workers.Word.COUNT] == 3


def test_an_interrupted_change_leaves_no_threads_behind(pool, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    go, work = threading.Event(), pool._work
    with monkeypatch.context() as patch:
        patch.setattr(workers, "time", types.SimpleNamespace(sleep=interrupted))
        patch.setattr(pool, "_work", lambda *arguments: (go.wait(), work(*arguments)))
        with pytest.raises(KeyboardInterrupt):
            torch.set_num_threads(2)
    (left,) = pool.workers
    go.set()
    torch.set_num_threads(1)
    assert not left.is_alive()


def test_a_system_with_too_few_threads(everything, pool, monkeypatch):
    start = threading.Thread.start

    def second_fails(self):
        if self.name == "chainrule-2":
            raise RuntimeError("can't start new thread")
        start(self)

    x = torch.ones(64, 64)
    step = torch.compile(lambda a: (a @ a).relu())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", second_fails)
        torch.set_num_threads(3)
        assert step(x)[0, 0].item() == 64.0
        assert pool.workers == []
        assert pool.words[workers.Word.COUNT] == 1
    torch.set_num_threads(2)
    assert step(x)[0, 0].item() == 64.0


def test_a_system_without_more_threads(everything, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    x = torch.ones(64, 64)
    step = torch.compile(lambda a: (a @ a).relu())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        torch.set_num_threads(3)
        assert step(x)[0, 0].item() == 64.0
    torch.set_num_threads(2)
    assert step(x)[0, 0].item() == 64.0


HELD = """
import os, signal, threading
import chainrule as torch
from chainrule.compile.variant import running
held, ended = threading.Event(), threading.Event()
def hold():
    with running:
        held.set()
        ended.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if torch.compile(lambda a: a * 2)(torch.ones(1)).item() == 2.0 else 3)
ended.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_while_another_thread_runs_a_step():
    comes_back(HELD)


def test_bad_numbers_are_refused():
    with pytest.raises(RuntimeError, match="set_num_threads expects a positive integer"):
        torch.set_num_threads(0)
    with pytest.raises(TypeError, match="set_num_threads expects an int, but got str"):
        torch.set_num_threads("2")
