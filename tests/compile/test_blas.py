"""Products that go to a BLAS library: the same numbers, in every layout, and a sentence for a wrong choice."""

import numpy as np
import pytest
from tests.compile.programs import record, run

import chainrule as torch
from chainrule.compile import blas
from chainrule.errors import UsageError

RNG = np.random.default_rng(0)


def libraries():
    found = ["openblas"]
    try:
        blas.address("mkl", "f32")
        found.append("mkl")
    except UsageError:  # the `mkl` extra is not installed
        pass
    return found


@pytest.mark.parametrize("library", libraries())
@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_librarys_products_in_every_layout(library, layout, dtype, batch, monkeypatch):
    monkeypatch.setenv("CHAINRULE_BLAS", library)
    monkeypatch.setattr(blas, "WORTH", 0)
    m, n, k = 33, 29, 50
    a, b = (
        RNG.normal(size=(*batch, *(s if t == "n" else s[::-1]))).astype(dtype)
        for s, t in zip(((m, k), (k, n)), layout, strict=True)
    )

    def f(a, b):
        return torch.relu((a.mT if layout[0] == "t" else a) @ (b.mT if layout[1] == "t" else b) + 1)

    program, expected = record(f, [a, b])
    (got,), step = run(program, [a, b])
    # The sum of k products rounds at most k times.
    bound = k * np.finfo(dtype).eps * np.sqrt(k) * 4
    np.testing.assert_allclose(got, expected[0], rtol=0, atol=bound)
    assert any(root in blas.ENTRIES.values() for parts in step.kernels for _, kern in parts for root, _ in kern.params)


def test_a_wrong_choice_is_said(monkeypatch):
    monkeypatch.setenv("CHAINRULE_BLAS", "fast")
    f = torch.compile(lambda a: a @ a)
    with pytest.raises(UsageError, match="CHAINRULE_BLAS=fast is no library that products can go to"):
        f(torch.ones(4, 4))
