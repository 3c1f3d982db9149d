"""bfloat16 tensors: stored as PyTorch stores them, computed in float32 and rounded once, as PyTorch's kernels do."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

import chainrule

# One unit in the last of bfloat16's 8 digits: both round a float32 result, and those differ in float32's last.
ULP = 2.0**-7

CALLS = """
x + y | x - y | x * y | x / y | x + 1 | x * 0.1 | 2 - x | x ** 2 | x @ y.T | x % 2 | -x | T.maximum(x, y)
x.abs() | x.exp() | x.tanh() | x.sigmoid() | x.relu() | T.sqrt(x.abs()) | x.sin() | x.floor() | T.erf(x) | x.sign()
x.sum() | x.sum(0) | x.mean(1) | x.amax(0) | x.std() | x.softmax(1) | x.log_softmax(0) | x.cumsum(0)
x.norm() | x.prod(1) | x.logsumexp(0) | x.max(1)[0] | x.sort(0)[0] | x.clamp(-1, 1)
x.reshape(2, 6) | x.T | x[1:, ::2] | x[[2, 0]] | x.unsqueeze(0) | x.expand(2, 3, 4).sum(0) | x.flatten() | x.flip(0)
T.cat([x, y]) | T.stack([x, y], 1) | T.where(x > 0, x, y) | x.masked_fill(x > 0, 0) | x.gather(0, T.zeros(1, 4).long())
x.tril() | x.roll(1, 0) | x.repeat(1, 2) | x.diagonal() | x.split(2)[1] | x.index_select(1, T.tensor([0, 0]))
T.nn.functional.gelu(x) | T.nn.functional.silu(x) | T.nn.functional.layer_norm(x, (4,)) | T.nn.functional.linear(x, y)
T.nn.functional.mse_loss(x, y) | T.nn.functional.cross_entropy(x, T.tensor([0, 3, 1])) | x.to(T.float32) * 2
(x + T.ones(4, dtype=T.float16)) | (x + T.ones(4)) | (x + T.arange(4)) | x.double() + x
x.half() | x.float().bfloat16()
""".replace("\n", " | ").split(" | ")
CALLS = [c.strip() for c in CALLS if c.strip()]


def inputs(T, requires_grad):
    rng = np.random.default_rng(7)
    given = [T.tensor(rng.normal(size=(3, 4)).astype(np.float32)).bfloat16() for _ in range(2)]
    return [t.requires_grad_(requires_grad) for t in given]


def facts(t):
    return str(t.dtype), tuple(t.shape), t.detach().double().numpy()


@pytest.mark.parametrize("call", CALLS)
def test_values_and_gradients(call):
    found = []
    for T in (chainrule, torch):
        x, y = inputs(T, True)
        out = eval(call, {"T": T, "x": x, "y": y})
        found.append([facts(out)])
        if out.requires_grad:
            weights = T.tensor(np.linspace(0.5, 1.5, out.numel()).astype(np.float32)).reshape(out.shape)
            (out.float() * weights).sum().backward()
            found[-1] += [facts(t.grad) if t.grad is not None else None for t in (x, y)]
    for k, (ours, theirs) in enumerate(zip(*found, strict=True)):
        if theirs is None or ours is None:
            assert ours is theirs
            continue
        assert ours[:2] == theirs[:2]
        # A gradient is the sum of a few terms, each of which was rounded.
        scale = np.abs(theirs[2]).max(initial=0.0)
        np.testing.assert_allclose(ours[2], theirs[2], rtol=ULP * (1 + 2 * k), atol=4 * ULP * scale * k)


@pytest.mark.parametrize("to", ["uint8", "int8", "int64", "bool", "float16", "float32", "float64"])
def test_conversions(to):
    values = np.array([0.0, -0.0, 1.5, 2.0, 100.7, 3e38, 1e-40, 65504.0])
    values = values[:5] if to in ("uint8", "int8", "int64") else values
    ours, theirs = (T.tensor(values).to(T.bfloat16).to(getattr(T, to)) for T in (chainrule, torch))
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_rounds_to_nearest_even():
    bits = np.random.default_rng(0).integers(0, 2**32, 20000, dtype=np.uint32)
    halves = (np.arange(4096, dtype=np.uint32) << 16) | 0x8000  # exactly between two neighbours
    values = np.concatenate([bits, halves]).view(np.float32)
    values = values[np.isfinite(values)]
    ours = chainrule.tensor(values).bfloat16().view(chainrule.int16).numpy()
    np.testing.assert_array_equal(ours, torch.tensor(values).bfloat16().view(torch.int16).numpy())


def test_prints_and_describes_as_pytorch():
    for T in (chainrule, torch):
        x = T.tensor([1.0, 2.5, 3.3], dtype=T.bfloat16)
        assert repr(x) == "tensor([1.0000, 2.5000, 3.2969], dtype=torch.bfloat16)"
        assert (x.type(), x.element_size(), x.tolist()) == ("torch.BFloat16Tensor", 2, [1.0, 2.5, 3.296875])
        assert repr(x.requires_grad_() + 1).endswith("grad_fn=<AddBackward0>)")
    assert repr(chainrule.finfo(chainrule.bfloat16)) == repr(torch.finfo(torch.bfloat16))


@pytest.mark.parametrize("other", ["bool", "uint8", "int64", "float16", "bfloat16", "float32", "float64", "uint16"])
def test_promotion(other):
    assert str(chainrule.promote_types(chainrule.bfloat16, getattr(chainrule, other))) == str(
        torch.promote_types(torch.bfloat16, getattr(torch, other))
    )


def test_numpy_says_what_to_do():
    with pytest.raises(TypeError, match=r"Got unsupported ScalarType BFloat16(.|\n)*float"):
        chainrule.ones(2).bfloat16().numpy()


def test_files_in_both_directions(tmp_path):
    import safetensors.torch

    model = chainrule.nn.Linear(3, 2).to(chainrule.bfloat16)
    chainrule.save(model.state_dict(), tmp_path / "ours.safetensors")
    theirs = safetensors.torch.load_file(tmp_path / "ours.safetensors")
    assert theirs["weight"].dtype is torch.bfloat16
    assert theirs["weight"].tolist() == model.weight.tolist()
    safetensors.torch.save_file(theirs, tmp_path / "theirs.safetensors")
    torch.save({**theirs, "wide": torch.tensor([1, 65535], dtype=torch.uint16)}, tmp_path / "theirs.pt")
    for name in ("theirs.safetensors", "theirs.pt"):
        back = chainrule.load(tmp_path / name)
        assert back["weight"].dtype is chainrule.bfloat16
        assert back["weight"].tolist() == model.weight.tolist()
    assert back["wide"].dtype is chainrule.uint16
    assert back["wide"].tolist() == [1, 65535]
    other = chainrule.nn.Linear(3, 2)
    other.load_state_dict(back, strict=False)
    assert other.weight.dtype is chainrule.float32
    assert other.weight.tolist() == model.weight.tolist()
    memory = io.BytesIO()
    chainrule.save([chainrule.ones(2, dtype=chainrule.bfloat16)], memory)
    memory.seek(0)
    assert chainrule.load(memory)[0].dtype is chainrule.bfloat16


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_training_in_bfloat16(optimizer):
    losses = []
    for T in (chainrule, torch):
        rng = np.random.default_rng(3)
        x, y = (T.tensor(rng.normal(size=s).astype(np.float32)).bfloat16() for s in ((16, 4), (16, 1)))
        net = T.nn.Sequential(T.nn.Linear(4, 8), T.nn.Tanh(), T.nn.Linear(8, 1)).to(T.bfloat16)
        with T.no_grad():
            for p in net.parameters():
                p.copy_(T.tensor(rng.normal(size=tuple(p.shape)).astype(np.float32) * 0.5))
        steps = getattr(T.optim, optimizer)(net.parameters(), lr=0.05)
        for _ in range(10):
            steps.zero_grad()
            loss = T.nn.functional.mse_loss(net(x), y)
            loss.backward()
            steps.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=0.05)  # a few of 8 bits, after ten steps


def test_the_printed_program_runs():
    x = chainrule.tensor([0.5, 1.5], requires_grad=True)
    (x.bfloat16().tanh() * 3).sum().backward(retain_graph=True)
    y = (x.bfloat16().tanh() * 3).sum()
    program: dict = {}
    exec(str(y.backward_source()), program)
    value, cache = program["forward"](x.detach().numpy())
    assert float(value) == y.item()
    (gradient,) = program["backward"](cache).values()
    np.testing.assert_array_equal(np.asarray(gradient, np.float32), x.grad.numpy())


def test_wide_unsigned_integers_are_stored_and_cast():
    for T in (chainrule, torch):
        x = T.tensor([3, 65535], dtype=T.uint16)
        assert repr(x) == "tensor([    3, 65535], dtype=torch.uint16)"
        assert (x.float() / 2).tolist() == [1.5, 32767.5]
        assert T.promote_types(T.uint32, T.float32) is T.float32
        with pytest.raises(RuntimeError, match="Promotion for uint16, uint32, uint64 types is not supported"):
            T.promote_types(T.uint16, T.int32)
