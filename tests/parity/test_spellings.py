"""Names at PyTorch's top level: layers by their kernels' arguments, windows, control flow, state of the program."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule

CALLS = (
    """
T.batch_norm(x, v, v, None, None, True, 0.1, 1e-5, False)
T.instance_norm(c, None, None, None, None, True, 0.1, 1e-5, False)
T.embedding(x, i) | T.embedding(x, i, 1) | T.constant_pad_nd(x, (1, 0, 2, 1), 2.0) | T.conv_tbc(c, c, v, 1)
T.convolution(c, c, v, [1], [1], [1], False, [0], 1) | T.convolution(c, c, None, [2], [1], [1], True, [1], 1)
T.binary_cross_entropy_with_logits(x, p) | T.binary_cross_entropy_with_logits(x, p, None, v.detach(), 1)
T.cosine_embedding_loss(x, y, s, 0.1, 2) | T.hinge_embedding_loss(x, y.sign(), 0.5)
T.kl_div(x, p, 2, log_target=False)
T.margin_ranking_loss(v, v * 2, s, 0.3) | T.poisson_nll_loss(x, p, True, True, 1e-8, 1) | T.triplet_margin_loss(x, y, p)
T.triplet_margin_loss(x, y, p, 1.0, 2.0, 1e-6, True, 0) | T.max_pool1d_with_indices(c, 2)[0]
T.max_pool1d_with_indices(c, 2)[1]
T.adaptive_max_pool1d(c, 2)[0] | T.adaptive_max_pool1d(c, 1)[1] | T.gru_cell(x, y, w3, w3)
T.rnn_tanh_cell(x, y, x, x, v, v)
T.rnn_relu_cell(x, y, x, x) | T.lstm_cell(x, (y, p), w4, w4)[1]
T.rnn_tanh(c, x[None], [x, x], False, 1, 0.0, False, False, False)[0]
T.gru(c, x[None], [w3, w3], False, 1, 0.0, False, False, True)[0]
T.gru(c, x[None], [w3, w3], False, 1, 0.0, False, False, False)[1]
T.lstm(c, (x[None], y[None]), [w4, w4], False, 1, 0.0, False, False, False)[2]
T.rnn_relu(c, x[None], [x, x, v, v], True, 1, 0.0, False, False, False)[0]
T.ctc_loss(c.log_softmax(2), T.tensor([[1], [2], [1]]), T.tensor([3, 3, 3]), T.tensor([1, 1, 1]))
T.ctc_loss(c.log_softmax(2), T.tensor([[1], [2], [1]]), T.tensor([3, 3, 3]), T.tensor([1, 1, 1]), 0, 2, True)
T.pdist(x) | T.pdist(x, 1.0) | T.block_diag(x, v, p) | T.gradient(x)[1] | T.gradient(v, spacing=(i.double() ** 2,))[0]
T.gradient(x, spacing=(2.0, 3.0))[0] | T.gradient(x, spacing=0.5, dim=1, edge_order=2)[0] | T.frexp(x)[0]
T.fill(x, 2.0)
T.gradient(x, dim=(0, 1), edge_order=3) | T.gradient(x, dim=(0, 0)) | T.gradient(x, spacing=(1.0, 2.0, 3.0))
T.segment_reduce(v, "sum", lengths=T.tensor([1, 2])) | T.segment_reduce(x, "mean", lengths=T.tensor([2, 1]), axis=0)
T.segment_reduce(v, "max", lengths=T.tensor([1, 0, 2])) | T.segment_reduce(v, "min", offsets=T.tensor([0, 2, 3]))
T.segment_reduce(x, "prod", lengths=T.tensor([2, 1]), axis=0)
T.segment_reduce(x, "sum", lengths=T.tensor([[1, 2]] * 3), axis=1)
T.segment_reduce(v, "sum", lengths=T.tensor([3, 0]), initial=1.0)
T.segment_reduce(v, "max", lengths=T.tensor([3, 0]), initial=9.0)
T.segment_reduce(v, "mean", lengths=T.tensor([3, 0]), initial=2.0)
T.segment_reduce(v, "sum", lengths=T.tensor([1, 1]))
T.segment_reduce(v, "sum") | T.segment_reduce(v, "sum", lengths=T.tensor([4, -1]))
T.segment_reduce(v, "no", lengths=T.tensor([3]))
T.histogramdd(x.detach(), 2)[0] | T.histogramdd(x.detach(), [2, 1, 3])[1][2]
T.histogramdd(x.detach(), 2, range=[-1.0, 1.0] * 3)[0]
T.histogramdd(x.detach(), 2, weight=v.detach(), density=True)[0] | T.hash_tensor(i) | T.hash_tensor(x.detach())
T.bartlett_window(5) | T.hann_window(4, periodic=False) | T.hamming_window(6, True, 0.5, 0.5)
T.blackman_window(7, dtype=T.float64)
T.kaiser_window(5) | T.kaiser_window(4, False, 5.0) | T.hann_window(0) | T.hann_window(1) | T.hann_window(-1)
T.hann_window(2, dtype=T.int64)
W.bartlett(6) | W.blackman(5, sym=False) | W.cosine(4) | W.cosine(5, sym=False) | W.exponential(5)
W.exponential(6, sym=False, tau=2.0)
W.exponential(4, center=1.0, sym=False) | W.gaussian(5, std=0.9) | W.gaussian(4, sym=False)
W.general_cosine(5, a=[0.4, 0.3, 0.3])
W.general_hamming(5, alpha=0.6) | W.hamming(4) | W.hann(5, sym=False) | W.kaiser(6, beta=3.0)
W.nuttall(5, dtype=T.float64) | W.hann(1)
W.hann(-1) | W.hann(3, dtype=T.float16) | W.gaussian(3, std=-1.0) | W.exponential(3, center=1.0)
W.general_cosine(3, a=[])
T.cond(True, lambda x: x + 1, lambda x: x, (x,))
T.get_autocast_dtype("cpu") | T.get_autocast_dtype("cuda")
T.is_anomaly_enabled() | T.is_anomaly_check_nan_enabled() | T.get_deterministic_debug_mode()
T.is_warn_always_enabled()
T.compiler.is_compiling() | T.compiler.is_exporting() | T.is_distributed(x) | T.get_device(x)
T.is_autocast_cache_enabled()
""".strip()
    .replace("\n", " | ")
    .split(" | ")
)


def inputs(T):
    rng = np.random.default_rng(5)
    leaves = {"x": (3, 3), "y": (3, 3), "v": (3,), "c": (3, 3, 3), "w3": (9, 3), "w4": (12, 3)}
    made = {n: T.tensor(rng.normal(size=s).astype(np.float64)).requires_grad_() for n, s in leaves.items()}
    others = {"p": T.tensor(rng.uniform(0.1, 0.9, (3, 3))), "s": T.tensor([1.0, -1.0, 1.0], dtype=T.float64)}
    return made, {**made, **others, "i": T.tensor([0, 2, 1]), "T": T, "W": T.signal.windows}


@pytest.mark.filterwarnings("ignore:.*prototype")
@pytest.mark.filterwarnings("ignore:.*PyTorch API of MaskedTensors")
@pytest.mark.parametrize("call", CALLS)
def test_same_as_pytorch(call):
    found = []
    for T in (chainrule, torch):
        leaves, names = inputs(T)
        try:
            out = eval(call, names)
        except Exception as error:
            found.append(
                [type(error).__name__ in ("ValueError", "TypeError"), str(error).split("\n")[0].split(" (Could")[0]]
            )
            continue
        if not isinstance(out, T.Tensor):
            found.append([str(out)])
            continue
        found.append([str(out.dtype), out.detach().numpy()])
        if out.requires_grad:
            weights = T.linspace(0.5, 1.5, out.numel(), dtype=T.float64).reshape(out.shape)
            grads = T.autograd.grad((out * weights).sum(), leaves.values(), allow_unused=True)
            found[-1] += [np.zeros(1) if g is None else g.numpy() for g in grads]
    assert len(found[0]) == len(found[1])
    for ours, theirs in zip(*found, strict=True):
        if isinstance(ours, np.ndarray):
            single = theirs.dtype == np.float32
            np.testing.assert_allclose(ours, theirs, rtol=1e-6 if single else 1e-9, atol=1e-7 if single else 1e-10)
        else:
            assert ours == theirs


def test_while_loop_and_modes():
    assert chainrule.cond(chainrule.tensor(2) > 3, lambda x: x, lambda x: -x, (1,)) == -1
    assert not chainrule.is_autocast_cpu_enabled()
    with chainrule.autocast("cpu"):
        assert chainrule.is_autocast_cpu_enabled()
    assert chainrule.get_autocast_cpu_dtype() is chainrule.bfloat16
    assert chainrule.while_loop(lambda i: i < 3, lambda i: (i + 1,), (chainrule.tensor(0),))[0].item() == 3
    chainrule.set_anomaly_enabled(True)
    assert chainrule.is_anomaly_enabled()
    chainrule.set_anomaly_enabled(False)
    chainrule.set_deterministic_debug_mode("warn")
    assert chainrule.get_deterministic_debug_mode() == 1
    assert chainrule.is_deterministic_algorithms_warn_only_enabled()
    chainrule.set_deterministic_debug_mode(0)
    assert not chainrule.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="invalid value of debug_mode"):
        chainrule.set_deterministic_debug_mode(3)


def test_dlpack_shares_memory_both_ways():
    ours = chainrule.arange(3.0)
    theirs = torch.from_dlpack(ours)
    theirs[0] = 7
    assert ours.tolist() == [7.0, 1.0, 2.0]
    back = chainrule.from_dlpack(theirs)
    back[1] = 8
    assert theirs.tolist() == [7.0, 8.0, 2.0]
    assert chainrule.from_dlpack(chainrule.to_dlpack(ours)).data_ptr() == ours.data_ptr()
    assert chainrule.from_dlpack(np.arange(2)).tolist() == [0, 1]
    with pytest.raises(BufferError, match="require"):
        np.from_dlpack(chainrule.ones(2, requires_grad=True))


def test_low_rank_decompositions_find_what_is_there():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20, 3)) @ rng.normal(size=(3, 8))
    x = chainrule.tensor(a)
    u, s, v = chainrule.svd_lowrank(x, q=3)
    np.testing.assert_allclose(((u * s) @ v.mT).numpy(), a, atol=1e-10)
    np.testing.assert_allclose(s.numpy(), np.linalg.svd(a)[1][:3], rtol=1e-10)
    u, s, v = chainrule.pca_lowrank(x, q=3)
    np.testing.assert_allclose(s.numpy(), np.linalg.svd(a - a.mean(0))[1][:3], rtol=1e-10)
    with pytest.raises(ValueError, match="must be non-negative integer and not greater"):
        chainrule.pca_lowrank(x, q=30)
    m = a.T @ a + np.eye(8)
    b = np.diag(np.arange(1.0, 9.0))
    ours, theirs = (T.lobpcg(T.tensor(m), 2, T.tensor(b))[0].numpy() for T in (chainrule, torch))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)  # PyTorch iterates until that
