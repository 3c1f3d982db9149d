"""GRU and plain recurrent layers compiled: forward and backward, both directions, sequences of several lengths."""

import numpy as np
import pytest
from tests.compile.programs import record, run

import chainrule as torch

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}])
@pytest.mark.parametrize("kind", ["gru", "tanh", "relu"])
def test_layers_run_natively(kind, options):
    torch.manual_seed(0)
    layer = torch.nn.GRU(3, 4, **options) if kind == "gru" else torch.nn.RNN(3, 4, nonlinearity=kind, **options)
    x = RNG.normal(size=(5, 2, 3)).astype(np.float32)

    def f(x):
        with torch.enable_grad():
            y, h = layer(x)
            grads = torch.autograd.grad((y * y).sum() + h.sum(), list(layer.parameters()))
        return [y, h, *grads]

    program, expected = record(f, [x])
    got, step = run(program, [x])
    assert not step.calls, [c.node.name for c in step.calls]
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["gru", "tanh"])
def test_sequences_of_several_lengths(kind):
    torch.manual_seed(0)
    layer = (torch.nn.GRU if kind == "gru" else torch.nn.RNN)(3, 4, bidirectional=True)
    x = RNG.normal(size=(5, 3, 3)).astype(np.float32)

    def f(x):
        with torch.enable_grad():
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 3, 1])
            y, h = layer(packed)
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
            grads = torch.autograd.grad((y * y).sum() + h.sum(), list(layer.parameters()))
        return [y, h, *grads]

    program, expected = record(f, [x])
    got, step = run(program, [x])
    assert not {c.node.name for c in step.calls} & {"gru", "gru_backward", "rnn", "rnn_backward"}
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-5)
