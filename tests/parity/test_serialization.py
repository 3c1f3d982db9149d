"""PyTorch's own files are read: values, containers, views, dtypes; and what is more than weights is refused by name."""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch

import chainrule as cr


def _through(obj):
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    buffer.seek(0)
    return cr.load(buffer)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])
def test_dtypes(dtype):
    theirs = torch.arange(-3, 9).reshape(3, 4).to(getattr(torch, dtype))
    mine = _through({"x": theirs})["x"]
    assert str(mine.dtype) == f"torch.{dtype}"
    np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_bfloat16_stays_bfloat16():
    theirs = torch.tensor([1.5, -2.25, 3e38, float("inf")]).to(torch.bfloat16)
    ours = _through(theirs)
    assert str(ours.dtype) == "torch.bfloat16"
    np.testing.assert_array_equal(ours.float().numpy(), theirs.float().numpy())


@pytest.mark.parametrize("make", [
    lambda x: x.T, lambda x: x[1:, ::2], lambda x: x[0, 0], lambda x: x[:0], lambda x: x.expand(2, 3, 4), lambda x: x,
    lambda x: x[2:].permute(1, 0),
])  # fmt: skip
def test_views(make):
    theirs = make(torch.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(_through([theirs])[0].numpy(), theirs.numpy())


def test_containers():
    obj = {"a": [1, 2.5, "x", None, True, (1, torch.ones(2))], 3: OrderedDict(b=torch.zeros(()), c=-(2**70)),
           "size": torch.Size([2, 3]), "dtype": torch.float64, "set": {1, 2},
           "device": torch.device("cpu")}  # fmt: skip
    got = _through(obj)
    assert got["a"][:5] == obj["a"][:5]
    assert isinstance(got["a"][5], tuple)
    assert isinstance(got[3], OrderedDict)
    assert got[3]["c"] == -(2**70)
    assert got["size"] == (2, 3)
    assert got["dtype"] is cr.float64
    assert got["set"] == {1, 2}


def test_parameter_requires_grad():
    got = _through(
        {"w": torch.nn.Parameter(torch.ones(2)), "f": torch.nn.Parameter(torch.ones(2), requires_grad=False)}
    )
    assert isinstance(got["w"], cr.nn.Parameter)
    assert got["w"].requires_grad
    assert not got["f"].requires_grad


def _models(lib):
    nn = lib.nn
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def test_state_dict_of_a_model(tmp_path):
    theirs = _models(torch)
    theirs(torch.randn(7, 5))
    torch.save(theirs.state_dict(), tmp_path / "m.pt")
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("f")
    expected = theirs.eval()(torch.tensor(x)).detach().numpy()
    for name in ("m.pt", "m.safetensors"):
        mine = _models(cr)
        mine.load_state_dict(cr.load(tmp_path / name))
        np.testing.assert_allclose(mine.eval()(cr.tensor(x)).detach().numpy(), expected, rtol=1e-6, atol=1e-7)


def test_our_weights_load_in_pytorch(tmp_path):
    mine = _models(cr)
    cr.save(mine.state_dict(), tmp_path / "m.safetensors")
    theirs = _models(torch)
    theirs.load_state_dict(safetensors.torch.load_file(tmp_path / "m.safetensors"))
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def _to_pytorch(obj):
    buffer = io.BytesIO()
    cr.save(obj, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", "int8", "int16", "int32", "int64",
                                   "uint8", "uint16", "uint32", "uint64", "bool"])  # fmt: skip
def test_written_dtypes(dtype):
    mine = cr.arange(-3, 9).reshape(3, 4).to(getattr(cr, dtype))
    theirs = _to_pytorch({"x": mine, "t": mine.T, "0": mine[:0], "s": mine[1, 2]})
    expected = torch.arange(-3, 9).reshape(3, 4).to(getattr(torch, dtype))
    assert theirs["x"].dtype is expected.dtype
    assert torch.equal(theirs["x"], expected)
    assert torch.equal(theirs["t"], expected.T)
    assert theirs["0"].shape == (0, 4)
    assert torch.equal(theirs["s"], expected[1, 2])


def test_written_views_share_memory():
    x = cr.arange(12.0).reshape(3, 4)
    theirs = _to_pytorch([x, x.T, x[1:, ::2], cr.flip(x, [0]), cr.ones(1, 3).expand(4, 3), cr.zeros(5)])
    for a, b in zip(theirs, [x, x.T, x[1:, ::2], x.numpy()[::-1], cr.ones(4, 3), cr.zeros(5)]):
        np.testing.assert_array_equal(a.numpy(), np.asarray(b))
    theirs[0].fill_(7)
    assert theirs[1].eq(7).all()
    assert theirs[2].eq(7).all()
    assert theirs[5].eq(0).all()


def test_written_containers():
    obj = {"a": [1, 2.5, "é", None, True, (1,), 2**80, b"", b"xyz"], "od": OrderedDict(z=1), "c": Counter("aab"),
           "size": cr.Size([2, 3]), "set": {1}, 3: math.inf}  # fmt: skip
    assert _to_pytorch(obj) == obj
    got = _to_pytorch({"dtype": cr.float64, "device": cr.device("cpu"), "other": cr.device("cuda", 1)})
    assert got == {"dtype": torch.float64, "device": torch.device("cpu"), "other": torch.device("cuda", 1)}
    got = _to_pytorch([cr.nn.Parameter(cr.ones(2)), cr.nn.Parameter(cr.ones(2), False), cr.ones(2, requires_grad=True)])
    assert [type(t) for t in got] == [torch.nn.Parameter, torch.nn.Parameter, torch.Tensor]
    assert [t.requires_grad for t in got] == [True, False, True]


def test_whole_checkpoints_both_ways(tmp_path):
    def build(lib):
        # no BatchNorm: behind one, the gradient of a bias is rounding, and Adam makes steps of that
        net = lib.nn.Sequential(lib.nn.Linear(5, 4), lib.nn.Tanh(), lib.nn.Linear(4, 2))
        opt = lib.optim.AdamW(net.parameters(), lr=0.01)
        return net, opt, lib.optim.lr_scheduler.StepLR(opt, 2, 0.5)

    def train(lib, net, opt, schedule):
        for seed in range(3):
            x = np.random.default_rng(seed).normal(size=(7, 5)).astype("f")
            opt.zero_grad()
            (net(lib.tensor(x)) ** 2).sum().backward()
            opt.step()
            schedule.step()

    def state(net, opt, schedule, **more):
        return {"model": net.state_dict(), "optimizer": opt.state_dict(), "schedule": schedule.state_dict(), **more}

    def restore(saved, net, opt, schedule):
        net.load_state_dict(saved["model"])
        opt.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])

    mine = build(cr)
    train(cr, *mine)
    cr.save(state(*mine, epoch=3), tmp_path / "c.pt")
    theirs = build(torch)
    saved = torch.load(tmp_path / "c.pt", weights_only=True)
    assert saved["epoch"] == 3
    restore(saved, *theirs)
    train(torch, *theirs)
    torch.save(state(*theirs, best=np.float64(0.5), history=np.arange(3)), tmp_path / "d.pt")
    again = build(cr)
    saved = cr.load(tmp_path / "d.pt")
    assert saved["best"] == 0.5
    np.testing.assert_array_equal(saved["history"], np.arange(3))
    restore(saved, *again)
    train(cr, *mine)
    for run, lib in ((mine, cr), (again, cr), (theirs, torch)):
        train(lib, *run)
    for a, b, c in zip(mine[0].parameters(), again[0].parameters(), theirs[0].parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), c.detach().numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(b.detach().numpy(), c.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_read_views_share_memory_and_tensors_keep_attributes():
    x = torch.arange(12.0)
    x.tag = "mine"
    got = _through([x, x[::2], torch.nn.Buffer(torch.ones(2))])
    got[0].fill_(7)
    assert got[1].tolist() == [7.0] * 6
    assert got[0].tag == "mine"
    assert got[2].tolist() == [1.0, 1.0]


def test_arrays_of_objects_are_refused():
    with pytest.raises(cr.serialization.FileFormatError, match="holds more than numbers"):
        _through(np.array([object()]))


def test_whole_module_is_refused_by_name(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "m.pt")
    with pytest.raises(pickle.UnpicklingError, match=r"refused to load torch\.nn\.modules\.linear\.Linear"):
        cr.load(tmp_path / "m.pt")


class _Evil:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("call", [os.system, eval, exec, getattr, __import__, open, os.mkdir])
def test_code_is_refused(tmp_path, call):
    mark = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": _Evil(call, str(mark))}))
        archive.writestr("archive/version", "3")
    with pytest.raises(cr.serialization.RefusedError, match="refused to load"):
        cr.load(path)
    assert not mark.exists()


def test_old_format_is_refused(tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(cr.serialization.RefusedError, match="bare pickle"):
        cr.load(tmp_path / "old.pt")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.99])
def test_damaged_file(tmp_path, cut):
    torch.save({"w": torch.ones(100)}, tmp_path / "m.pt")
    data = (tmp_path / "m.pt").read_bytes()
    (tmp_path / "m.pt").write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(cr.serialization.FileFormatError, match=r"m\.pt is damaged"):
        cr.load(tmp_path / "m.pt")


def test_flipped_bit(tmp_path):
    torch.save({"w": torch.ones(1000)}, tmp_path / "m.pt")
    data = bytearray((tmp_path / "m.pt").read_bytes())
    at = data.index(np.ones(4, "f").tobytes())
    data[at] ^= 1
    (tmp_path / "m.pt").write_bytes(bytes(data))
    with pytest.raises(cr.serialization.FileFormatError, match="checksum"):
        cr.load(tmp_path / "m.pt")


def test_optimizer_state(tmp_path):
    w = torch.nn.Parameter(torch.ones(3))
    ref = torch.optim.Adam([w], lr=0.1, amsgrad=True)
    for _ in range(3):
        (w * w).sum().backward()
        ref.step()
    torch.save({"w": w, "opt": ref.state_dict()}, tmp_path / "c.pt")
    saved = cr.load(tmp_path / "c.pt")
    v = saved["w"]
    opt = cr.optim.Adam([v], lr=0.1, amsgrad=True)
    opt.load_state_dict(saved["opt"])
    w.grad = torch.ones(3)
    v.grad = cr.ones(3)
    ref.step()
    opt.step()
    np.testing.assert_allclose(v.detach().numpy(), w.detach().numpy(), rtol=1e-6)
