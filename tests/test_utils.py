"""utils: checkpointing computes the same gradients, event files hold what was written."""

from __future__ import annotations

import os
import struct
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import GradientError
from chainrule.utils.checkpoint import checkpoint, checkpoint_sequential
from chainrule.utils.tensorboard import SummaryWriter, crc32c, png


def _net():
    cr.manual_seed(0)
    nn = cr.nn
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3), nn.Sigmoid(), nn.Linear(3, 2))


def _gradients(run):
    net = _net()
    x = cr.tensor(np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4), requires_grad=True)
    cr.manual_seed(1)
    y = run(net, x)
    cr.rand(7)  # the global stream has moved on when backward draws the dropout again
    after = cr.rand(1).item()
    (y * y).sum().backward()
    return [y.detach().numpy(), x.grad.numpy(), *(p.grad.numpy() for p in net.parameters())], after


@pytest.mark.parametrize("run", [
    lambda net, x: checkpoint(net, x, use_reentrant=False),
    lambda net, x: checkpoint_sequential(net, 3, x, use_reentrant=False),
    lambda net, x: checkpoint_sequential(net, 1, x, use_reentrant=True),
    lambda net, x: net[3:](checkpoint(lambda a, scale: net[:3](a) * scale, x, scale=1.0, use_reentrant=False)),
])  # fmt: skip
def test_checkpoint_changes_nothing_but_memory(run):
    plain, checked = _gradients(lambda net, x: net(x)), _gradients(run)
    for a, b in zip(plain[0], checked[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert plain[1] == checked[1]


def test_checkpoint_reaches_parameters_behind_inputs_without_gradient():
    net = _net()
    checkpoint(net, cr.ones(1, 4), use_reentrant=False).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def _records(path):
    """Read an event file by its specification."""
    data = path.read_bytes()
    at = 0

    def check(part, masked):
        crc = crc32c(part)
        assert masked == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    while at < len(data):
        (n,) = struct.unpack_from("<Q", data, at)
        check(data[at : at + 8], struct.unpack_from("<I", data, at + 8)[0])
        body = data[at + 12 : at + 12 + n]
        check(body, struct.unpack_from("<I", data, at + 12 + n)[0])
        yield _fields(body)
        at += 16 + n


def _fields(data):
    """A protocol buffer as {field number: [values]}."""
    out, at = {}, 0

    def varint():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at += 1
            n |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return n

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value = varint()
        else:
            n = {1: 8, 5: 4}.get(key & 7) or varint()
            value, at = data[at : at + n], at + n
        out.setdefault(key >> 3, []).append(value)
    return out


def test_event_file(tmp_path):
    with SummaryWriter(tmp_path, max_queue=1) as writer:
        for i in range(3):
            writer.add_scalar("loss", cr.tensor(0.5**i), i * 1000)
        writer.add_histogram("h", cr.linspace(-1, 1, 50), 7)
        writer.add_text("note", "hello")
        writer.add_scalars("both", {"a": 1.0, "b": 2.0}, 1)
        writer.add_image("i", np.zeros((3, 2, 2)))
    (path,) = [p for p in tmp_path.iterdir() if p.is_file()]
    first, *events = _records(path)
    assert first[3] == [b"brain.Event:2"]
    values = [(e.get(2, [None])[0], _fields(_fields(e[5][0])[1][0])) for e in events]
    assert [(step, v[1], struct.unpack("<f", v[2][0])[0]) for step, v in values[:3]] == [
        (0, [b"loss"], 1.0), (1000, [b"loss"], 0.5), (2000, [b"loss"], 0.25)
    ]  # fmt: skip
    histogram = _fields(values[3][1][5][0])
    assert struct.unpack("<d", histogram[3][0])[0] == 50
    assert np.frombuffer(histogram[7][0]).sum() == 50
    assert len(histogram[6][0]) == len(histogram[7][0])
    assert values[4][1][1] == [b"note/text_summary"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["both_a", "both_b"]
    with pytest.raises(ValueError, match="closed"):
        writer.add_scalar("loss", 1.0)


def test_png_is_read_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    (tmp_path / "x.png").write_bytes(png(pixels))
    image = pytest.importorskip("matplotlib.image", reason="a PNG reader is needed")
    np.testing.assert_allclose(image.imread(tmp_path / "x.png")[..., :3] * 255, pixels, atol=1e-3)


def test_default_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SummaryWriter(comment="_x").close()
    (run,) = os.listdir("runs")
    assert run.endswith("_x")


def test_a_checkpoint_keeps_nothing_between_its_two_runs_and_stops_the_second_early():
    alive, runs = [], []

    def f(t):
        h = t.exp()
        alive.append(weakref.ref(h._array))
        y = h.sin() * t
        runs.append("saved")
        z = y + 1
        runs.append("end")
        return z

    x = cr.ones(4, requires_grad=True)
    out = checkpoint(f, x, use_reentrant=False)
    assert alive[0]() is None
    assert runs == ["saved", "end"]
    out.sum().backward()
    assert runs[2:] in ([], ["saved"])  # not to the end: y + 1 saves nothing
    want = cr.ones(4, requires_grad=True)
    f(want).sum().backward()
    assert cr.equal(x.grad, want.grad)


def test_a_second_run_that_does_less_is_an_error():
    calls = []

    def f(t):
        calls.append(1)
        return t.exp().sin() if len(calls) == 1 else t * 1

    with pytest.raises(GradientError, match="A different number of tensors was saved"):
        checkpoint(f, cr.ones(2, requires_grad=True), use_reentrant=False).sum().backward()
