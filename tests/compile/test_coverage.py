"""Which ops run natively in a compiled step, which run their NumPy body, and why: the table is checked both ways."""

import numpy as np
import pytest
from tests.compile.programs import record

import chainrule.linalg  # noqa: F401 - its ops are registered when they are first needed
from chainrule.compile import nodes, passes
from chainrule.compile.decompose import decompose
from chainrule.compile.link import prepare
from chainrule.core.op import registry

ORDER = "sorting and order statistics: NumPy's algorithms, no arithmetic to fuse"
VALUES = "the shape of the result depends on values"
LAPACK = "cholesky det eigh inv logabsdet lu_factor matrix_exp pinv qr signdet solve solve_triangular svd".split()
NUMPY = {
    **dict.fromkeys(LAPACK, "LAPACK's"),
    "permute_rows": "the order is LAPACK's pivots",
    "argsort": ORDER, "sort_index": ORDER, "kth_index": ORDER, "median_index": ORDER, "mode_index": ORDER,
    "searchsorted": ORDER, "bincount": ORDER, "histogram_counts": ORDER, "cummax_index": ORDER, "cummin_index": ORDER,
    "nonzero": VALUES, "take_mask": VALUES, "put_mask": VALUES, "set_mask": VALUES,
    "gcd": "a loop of unknown length per entry", "lcm": "a loop of unknown length per entry",
    "polygamma": "SciPy computes it from several functions in Python", "zeta": "SciPy offers it to Python only",
    "frexp": "two results of different dtypes",
    "as_strided": "a view that may overlap itself", "read_places": "memory that views share in unknown ways",
    "from_places": "memory that views share in unknown ways",
    "lstm": "reversed or masked sequences (the plain case is native)",
    "lstm_backward": "alone, without the forward pass whose values it shares",
    "scatter_extreme": "include_self=False needs to know which entries are hit first",
    "bernoulli": "random numbers come from the generator", "dropout": "random numbers come from the generator",
    "multinomial": "random numbers come from the generator",
}  # fmt: skip
"""Ops that run as NumPy on ordinary arrays, at least in some settings, and the reason."""


def calls_of(program):
    program = passes.drop(decompose(program, []))
    program = passes.drop(passes.share(passes.simplify(passes.fold(program, set()))))
    built = nodes.build(prepare(program))[0]
    return {n.name for n in built if n.kind == "call"}


def ran_as_numpy(op):
    found = set()
    with np.errstate(all="ignore"):
        samples = list(op.samples(np.random.default_rng(0)))
    for call in samples:
        given = [a for a in call.args if isinstance(a, np.ndarray)]
        # Single numbers and empty arrays are not worth a kernel, and some ops leave them to NumPy.
        if not given or any(a.size == 0 or a.ndim == 0 for a in given):
            continue

        def f(*tensors, call=call):
            it = iter(tensors)
            return op.call(*[next(it) if isinstance(a, np.ndarray) else a for a in call.args], **call.params)

        found |= calls_of(record(f, given)[0])
    return found


@pytest.mark.parametrize("name", sorted(n for n, op in registry.items() if op.samples is not None))
def test_ops_run_natively_or_are_listed(name):
    found = ran_as_numpy(registry[name])
    if name in NUMPY:
        assert found, f"{name} is native now: take it off the list"
    else:
        assert not found, f"{found} ran as NumPy: give it a native form, or list it with the reason"
