"""Object code on disk: found by the next process, ignored and rewritten when damaged or foreign."""

import os
import subprocess
import sys

import numpy as np
import pytest
from tests.compile.programs import record, run

from chainrule.compile import entry, native


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    return tmp_path


def compile_again(program, x):
    entry.library()  # what all steps share
    native._libraries.clear()
    before = dict(native.stats)
    (got,), _ = run(program, [x], guard=0)
    np.testing.assert_allclose(got, np.tanh(x * 3 + 0.25), rtol=1e-6)
    return {k: native.stats[k] - before[k] for k in before}


def test_the_next_process_loads_and_damaged_files_are_rewritten(folder):
    x = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    program, _ = record(lambda t: (t * 3 + 0.25).tanh(), [x])
    assert compile_again(program, x) == {"compiled": 1, "from_disk": 0, "from_memory": 0}
    assert compile_again(program, x) == {"compiled": 0, "from_disk": 1, "from_memory": 0}
    (file,) = folder.glob("*.o")
    good = file.read_bytes()
    for bad in (
        good[:-5],
        b"",
        b"something else",
        good[:200] + b"\x00" + good[201:],
        good[:-1] + bytes([good[-1] ^ 1]),
    ):
        file.write_bytes(bad)
        assert compile_again(program, x)["compiled"] == 1
        assert file.read_bytes() == good
    assert compile_again(program, x)["from_disk"] == 1


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("CHAINRULE_CACHE", str(blocked / "inside"))
    x = np.ones((3, 5), np.float32)
    program, _ = record(lambda t: (t * 3 + 0.25).tanh(), [x])
    compile_again(program, x)


def test_the_folder_is_bounded_and_the_oldest_files_go(folder, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE_MB", "0.01")
    for k in range(6):
        old = folder / f"{k}.o"
        old.write_bytes(b"x" * 2000)
        os.utime(old, (k, k))
    (folder / "notes.txt").write_text("not ours")
    x = np.ones((3, 5), np.float32)
    program, _ = record(lambda t: (t * 3 + 0.25).tanh(), [x])
    compile_again(program, x)
    left = sorted(f.name for f in folder.glob("?.o"))
    assert sum(f.stat().st_size for f in folder.glob("*.o")) <= 10_000
    assert left == [f"{k}.o" for k in range(6)][6 - len(left) :]
    assert len(left) < 6
    assert (folder / "notes.txt").exists()
    assert compile_again(program, x)["from_disk"] == 1


def test_two_processes_may_write_at_once(folder):
    script = (
        "import numpy as np, chainrule as torch\n"
        "f = torch.compile(lambda x: (x * 3 + 0.25).tanh())\n"
        "print(f(torch.ones(3, 5)).sum().item())"
    )
    children = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(3)]
    assert len({child.communicate(timeout=120)[0] for child in children}) == 1
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(list(folder.glob("*.o"))) == 2  # the step's, and what all steps share
    assert not [f for f in folder.iterdir() if f.suffix != ".o"], "nothing half written is left"
