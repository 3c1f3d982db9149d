"""Every public function, called with what it accepts: compiled with one input, right on another, or refused.

This finds functions that compute with a tensor's values behind the recorder's back, whose result would be frozen.
"""

import functools
import warnings

import numpy as np
import pytest

import chainrule as torch
from chainrule.compile import CompileError
from chainrule.errors import ChainruleError

F = torch.nn.functional
SKIP = {
    "compile", "manual_seed", "seed", "set_rng_state", "from_numpy", "frombuffer", "save", "load", "empty_like",
    "empty",
    "empty_permuted", "empty_strided", "is_tensor", "numel", "set_printoptions", "check", "explain", "diagnose",
    "watch", "vmap", "new_empty", "typename", "is_storage", "set_default_dtype", "set_default_device", "func_call",
}  # fmt: skip


@functools.cache
def arrays(seed):
    r = np.random.default_rng(seed)
    x, y = (r.uniform(0.1, 0.9, (4, 6)).astype(np.float32) for _ in range(2))
    square = (r.normal(size=(4, 4)) + 4 * np.eye(4)).astype(np.float32)
    i = r.permutation(6)[:4]
    index = np.stack([r.permutation(6) for _ in range(4)])
    image = r.uniform(0.1, 0.9, (2, 4, 6, 6)).astype(np.float32)
    mask = r.uniform(size=(4, 6)) > 0.5
    v, w = (r.uniform(0.1, 0.9, 6).astype(np.float32) for _ in range(2))
    return {"x": x, "y": y, "square": square, "i": i, "index": index, "image": image, "mask": mask, "v": v, "w": w}


NUMBERS = {"two": 2, "zero": 0, "half": 0.5, "four": (4,), "shape": (6, 4)}


def inputs(spec, seed):
    """The inputs that a call names, made anew: one that it names twice is one tensor."""
    made = {k: NUMBERS[k] if k in NUMBERS else torch.tensor(arrays(seed)[k]) for k in spec.split()}
    return [made[k] for k in spec.split()]


CALLS = ["x", "v", "i", "index", "square", "image", "mask", "x y", "x two", "x zero", "x half", "v w", "x i", "i i",
         "x index", "x mask", "x zero index", "x zero index y", "x y half", "x zero i", "image two", "square square",
         "x shape", "v i", "index two", "mask mask", "mask x y", "x mask y", "x mask half", "image four", "x zero i x",
         "x zero two", "x y w", "square v"]  # fmt: skip


def functions():
    found = {}
    for space, prefix in ((torch, ""), (F, "F."), (torch.linalg, "linalg."), (torch.special, "special."),
                          (torch.Tensor, "Tensor.")):  # fmt: skip
        for name in sorted(dir(space)):
            f = getattr(space, name, None)
            if name.startswith("_") or name in SKIP or not callable(f) or isinstance(f, type):
                continue
            if "dropout" in name or name in ("gumbel_softmax", "requires_grad_"):
                continue  # random numbers: in test_live
            if name in ("t_", "unsqueeze_", "squeeze_", "transpose_", "swapaxes_", "swapdims_"):
                continue  # they change the shape of the argument itself, which is not an input's to keep
            if "random" in (getattr(f, "__module__", "") or "") or name in ("register_hook", "backward", "retain_grad"):
                continue
            found[prefix + name] = f
    return found


FUNCTIONS = functions()


def tensors(out):
    if isinstance(out, torch.Tensor):
        return [out]
    if isinstance(out, (tuple, list)):
        return [t for o in out for t in tensors(o)]
    return []


def call(f, spec, seed):
    torch.manual_seed(0)
    with torch.no_grad(), np.errstate(all="ignore"):
        return f(*inputs(spec, seed))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_result_is_frozen(name):
    f = FUNCTIONS[name]
    done = 0  # four calls of a function are compiled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for spec in CALLS:
            try:
                expected = tensors(call(f, spec, 1))
                call(f, spec, 0)
            except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, AssertionError, KeyError,
                    ZeroDivisionError, NotImplementedError, ChainruleError, np.exceptions.AxisError):  # fmt: skip
                continue
            if not expected:
                continue
            if done == 4:
                break
            done += 1
            g = torch.compile(f)
            try:
                call(g, spec, 0)
                got = tensors(call(g, spec, 1))
            except CompileError:
                continue
            assert len(got) == len(expected), (name, spec)
            for a, b in zip(got, expected, strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape), (name, spec)
                if a.dtype is torch.bfloat16:
                    a, b = a.float(), b.float()
                np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5, err_msg=f"{name}({spec})")
