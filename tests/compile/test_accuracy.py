"""Compiled float32 against float64: no further off than a small factor of what eager mode is, also where it is hard."""

import numpy as np
import pytest
from tests.compile.programs import record, run

import chainrule as torch

F = torch.nn.functional
EPS = 2.0**-24


def cases():
    r = np.random.default_rng(0)
    plain = r.normal(size=(6, 300))
    yield "plain", plain
    yield "long rows", r.normal(size=(2, 40_000))
    yield "large offset", plain + 3000.0
    yield "large values", plain * 80.0
    yield "tiny values", plain * 1e-20
    yield "one entry dominates", np.where(np.arange(300) == 7, 60.0, plain)
    yield "cancelling sums", np.concatenate([plain * 1e4, -plain * 1e4, plain], 1)


FUNCTIONS = {
    "softmax": lambda x: torch.softmax(x, 1),
    "log_softmax": lambda x: torch.log_softmax(x, 1),
    "softmax over samples": lambda x: torch.softmax(x, 0),
    "logsumexp": lambda x: torch.logsumexp(x, 1),
    "sum": lambda x: x.sum(1),
    "mean of all": lambda x: x.mean(),
    "var": lambda x: x.var(1),
    "norm": lambda x: (x * 1e-3).norm(dim=1),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "batch statistics": lambda x: F.batch_norm(x, None, None, training=True),
    "rms_norm": lambda x: F.rms_norm(x, x.shape[1:]),
    "cross_entropy": lambda x: F.cross_entropy(x, torch.zeros(x.shape[0], dtype=torch.int64)),
    "bce_logits": lambda x: F.binary_cross_entropy_with_logits(x, x * 0 + 0.25, reduction="none"),
    "softplus": F.softplus,
    "gelu": F.gelu,
    "silu": F.silu,
    "cumsum": lambda x: x.cumsum(1),
    "smooth_l1": lambda x: F.smooth_l1_loss(x, x * 0.5),
}

SCALE = {
    "mean of all": lambda x: np.abs(x).mean(),
    "layer_norm": lambda x: 1.0,
    "sum": lambda x: np.sqrt((x * x).sum(1)),
}
"""Where entries cancel, an error is relative to what was added; elsewhere to the result itself."""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_against_float64(name):
    f = FUNCTIONS[name]
    for what, x64 in cases():
        x = x64.astype(np.float32)
        program, eager = record(f, [x])
        (got,), step = run(program, [x])
        assert not step.calls, [c.node.name for c in step.calls]
        _, (exact,) = record(f, [x.astype(np.float64)])
        exact, expected = np.asarray(exact), np.array(eager[0])
        finite = np.isfinite(exact) & np.isfinite(expected)
        np.testing.assert_array_equal(np.isfinite(got) | ~finite, True, err_msg=what)

        def error(y, exact=exact, finite=finite, x64=x64):
            size = np.maximum(np.abs(exact[finite]), SCALE.get(name, lambda _: 1e-38)(x64))
            return float((np.abs(y[finite].astype(np.float64) - exact[finite]) / size).max(initial=0.0))

        # Twice eager's, or a few roundings; another order of additions moves the last bits either way.
        assert error(got) <= 2 * error(expected) + 8 * EPS, (what, error(got), error(expected))
