"""save and load without PyTorch: what goes in comes out, damage is named, a file is old or new but never half."""

from __future__ import annotations

import builtins
import io
import json
import math
import os
from collections import Counter, OrderedDict

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.serialization import FileFormatError, RefusedError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda x: st.lists(x) | st.dictionaries(st.text() | st.integers(), x) | st.tuples(x, x),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_come_back(obj):
    buffer = io.BytesIO()
    cr.save(obj, buffer)
    buffer.seek(0)
    got = cr.load(buffer)
    assert got == obj
    assert repr(got) == repr(obj)  # types too: tuple stays tuple, 1 stays 1, True stays True


def _through(obj, path):
    cr.save(obj, path)
    return cr.load(path)


@pytest.mark.parametrize(
    "dtype", [cr.float16, cr.float32, cr.float64, cr.int8, cr.int16, cr.int32, cr.int64, cr.uint8, cr.bool]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors(tmp_path, dtype, shape):
    x = cr.ones(*shape).to(dtype)
    got = _through([x, x.numpy()], tmp_path / "x")
    assert got[0].dtype is dtype
    assert got[0].shape == x.shape
    assert isinstance(got[1], np.ndarray)
    np.testing.assert_array_equal(got[0].numpy(), x.numpy())
    got[0].numpy()[...] = 0  # it is writable memory


def test_special_values(tmp_path):
    obj = {"nan": math.nan, "inf": -math.inf, "size": cr.zeros(2, 3).shape, "dtype": cr.float64,
           "counter": Counter([1, 1]), "ordered": OrderedDict(a=1),
           "numpy": np.float32(0.5), "set": {1}, "np int": np.int64(3)}  # fmt: skip
    got = _through(obj, tmp_path / "x")
    assert math.isnan(got["nan"])
    assert got["inf"] == -math.inf
    assert got["size"] == (2, 3)
    assert got["dtype"] is cr.float64
    assert isinstance(got["counter"], Counter)
    assert isinstance(got["ordered"], OrderedDict)
    assert got["numpy"] == 0.5
    assert got["np int"] == 3


def test_kinds_of_tensors(tmp_path):
    got = _through([cr.nn.Parameter(cr.ones(2)), cr.ones(2, requires_grad=True), cr.ones(2).T], tmp_path / "x")
    assert isinstance(got[0], cr.nn.Parameter)
    assert [t.requires_grad for t in got] == [True, True, False]


def test_a_state_dict_is_an_ordinary_safetensors_file(tmp_path):
    net = cr.nn.Sequential(cr.nn.Linear(2, 3), cr.nn.Linear(3, 1))
    cr.save(net.state_dict(), tmp_path / "w.safetensors")
    seen = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    assert set(seen) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert list(cr.load(tmp_path / "w.safetensors")) == list(net.state_dict())
    safetensors.numpy.save_file({"b": np.ones(2), "a": np.zeros(1)}, tmp_path / "foreign")
    assert set(cr.load(tmp_path / "foreign")) == {"a", "b"}


def test_schedule_and_optimizer_state(tmp_path):
    w = cr.nn.Parameter(cr.ones(2))
    opt = cr.optim.Adam([w], lr=0.1)
    schedule = cr.optim.lr_scheduler.MultiStepLR(opt, [2, 4])
    w.grad = cr.ones(2)
    for _ in range(3):
        opt.step()
        schedule.step()
    got = _through({"s": schedule.state_dict(), "o": opt.state_dict()}, tmp_path / "x")
    other = cr.optim.Adam([w], lr=9.0)
    again = cr.optim.lr_scheduler.MultiStepLR(other, [7])
    other.load_state_dict(got["o"])
    again.load_state_dict(got["s"])
    assert again.get_last_lr() == schedule.get_last_lr()
    assert again.milestones == Counter([2, 4])
    assert repr(other) == repr(opt)


def test_whole_modules_need_trust(tmp_path):
    net = cr.nn.Linear(2, 1)
    cr.save(net, tmp_path / "m")
    with pytest.raises(RefusedError, match="weights_only=False"):
        cr.load(tmp_path / "m")
    got = cr.load(tmp_path / "m", weights_only=False)
    np.testing.assert_array_equal(got.weight.detach().numpy(), net.weight.detach().numpy())
    with pytest.raises(TypeError, match=r"f is a .*function.*cannot be pickled"):
        cr.save({"f": lambda: 0}, tmp_path / "m")
    assert cr.load(tmp_path / "m", weights_only=False).weight.shape == (1, 2)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 40, 0.5, 0.99])
def test_damaged_files_are_named(tmp_path, cut):
    path = tmp_path / "w.safetensors"
    cr.save({"w": cr.ones(50), "n": [1, 2]}, path)
    data = path.read_bytes()
    path.write_bytes(data[: cut if isinstance(cut, int) else int(len(data) * cut)])
    with pytest.raises(FileFormatError, match=r"w\.safetensors"):
        cr.load(path)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_sentence(data):
    with pytest.raises(FileFormatError):
        cr.load(io.BytesIO(data))


def test_structure_that_does_not_fit(tmp_path):
    for tree in ({"tensor": "zzz"}, {"nonsense": 1}, {"dict": [1]}, {"dtype": "os"}):
        about = {"chainrule": json.dumps({"version": 1, "tree": tree})}
        safetensors.numpy.save_file({"a": np.ones(1)}, tmp_path / "x", metadata=about)
        with pytest.raises(FileFormatError, match="structure"):
            cr.load(tmp_path / "x")
    about = {"chainrule": json.dumps({"version": 99, "tree": 1})}
    safetensors.numpy.save_file({"a": np.ones(1)}, tmp_path / "x", metadata=about)
    with pytest.raises(FileFormatError, match="newer"):
        cr.load(tmp_path / "x")


@pytest.mark.parametrize("failing", ["fsync", "replace", "write"])
def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch, failing):
    path = tmp_path / "w"
    cr.save({"w": cr.ones(3)}, path)

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if failing == "write":
        real = builtins.open

        def opened(file, mode="r", *args, **kwargs):
            handle = real(file, mode, *args, **kwargs)
            if "w" in mode:
                handle.close()
                fail()
            return handle

        monkeypatch.setattr(builtins, "open", opened)
    else:
        monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        cr.save({"w": cr.zeros(3)}, path)
    monkeypatch.undo()
    assert cr.load(path)["w"].tolist() == [1.0, 1.0, 1.0]
    assert os.listdir(tmp_path) == ["w"]
