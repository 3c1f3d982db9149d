"""Derivatives of functions: vjp, jvp, Jacobian, Hessian and their products (``torch.autograd.functional``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.op import registry
from ..core.untyped import TUPLE
from ..core.variable import Variable, wrap
from ..errors import GradientError, message
from .api import grad
from .modes import enable_grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _as_tuple(x: Any, name: str, function: str) -> tuple[bool, tuple[Any, ...]]:
    single = not isinstance(x, TUPLE)
    whole: tuple[Any, ...] = (x,) if single else x
    for i, t in enumerate(whole):
        if not isinstance(t, Variable):
            what = f"The {name} given to {function} must be either a Tensor or a tuple of Tensors but the"
            if single:
                raise TypeError(f"{what} given {name} has type {type(t)}.")
            raise TypeError(f"{what} value at index {i} has type {type(t)}.")
    return single, whole


def _prepare(inputs: tuple[Any, ...], create_graph: bool) -> tuple[Any, ...]:
    """Inputs to differentiate by: linked to the caller's graph when the result shall be, else fresh leaves."""
    if create_graph:
        return tuple(
            registry["reshape"].call(t, shape=t._array.shape) if t.requires_grad else t.detach().requires_grad_()
            for t in inputs
        )
    return tuple(t.detach().requires_grad_() for t in inputs)


def _finish(parts: tuple[Any, ...], create_graph: bool) -> tuple[Any, ...]:
    return parts if create_graph else tuple(t.detach() for t in parts)


def _pack(parts: tuple[Any, ...], single: bool) -> Any:
    return parts[0] if single else parts


def _gradients(
    outputs: tuple[Any, ...], inputs: tuple[Any, ...], given: Any, create_graph: bool, strict: bool, retain: bool = True
) -> tuple[Any, ...]:
    """``grad`` that takes outputs without history: zeros, or with ``strict`` an error."""
    chosen = [(o, g) for o, g in zip(outputs, given, strict=True) if o.requires_grad]
    found: tuple[Any, ...] = (None,) * len(inputs)
    if chosen:
        found = grad(
            [o for o, _ in chosen], inputs, [g for _, g in chosen], retain_graph=retain, create_graph=create_graph,
            allow_unused=True,
        )  # fmt: skip
    for i, g in enumerate(found):
        if strict and (g is None or (create_graph and not g.requires_grad)):
            raise GradientError(
                message(
                    f"The output of the user-provided function is independent of input {i}. This is not allowed in "
                    "strict mode."
                    if g is None
                    else f"The jacobian of the user-provided function with respect to input {i} is independent of the "
                    "input. This is not allowed in strict mode when create_graph=True."
                )
            )
    return tuple(wrap(np.zeros_like(t._array)) if g is None else g for g, t in zip(found, inputs, strict=True))


def _check_v(v: Any, like: tuple[Any, ...], single: bool, what: str) -> tuple[Any, ...]:
    if v is None:
        if len(like) != 1 or like[0]._array.size != 1:
            whose = "user-provided function returns" if what == "output" else "input to the user-provided function is"
            raise GradientError(
                message(f"The vector v can only be None if the {whose} a single Tensor with a single element.")
            )
        return (wrap(np.ones_like(like[0]._array)),)
    _, whole = _as_tuple(v, "v", "vjp" if what == "output" else "jvp")
    if len(whole) != len(like):
        raise GradientError(message(f"v is a tuple of invalid length: should be {len(like)} but got {len(whole)}."))
    for i, (a, b) in enumerate(zip(whole, like, strict=True)):
        if a._array.shape != b._array.shape:
            where = "" if len(like) == 1 else f"Entry {i} in "
            raise GradientError(message(f"{where}v has invalid size: should be {b.shape} but got {a.shape}."))
    return whole


def _call(func: Callable[..., Any], inputs: tuple[Any, ...], name: str) -> tuple[bool, tuple[Any, ...]]:
    return _as_tuple(func(*inputs), "outputs of the user-provided function", name)


def _run(func: Callable[..., Any], inputs: Any, create_graph: bool, strict: bool, name: str) -> Any:
    single_in, given = _as_tuple(inputs, "inputs", name)
    prepared = _prepare(given, create_graph)
    single_out, outputs = _call(func, prepared, name)
    for i, out in enumerate(outputs):
        if strict and not out.requires_grad:
            raise GradientError(
                message(
                    f"Output {i} of the user-provided function does not require gradients. The outputs must be "
                    "computed "
                    "in a differentiable manner from the input when running in strict mode."
                )
            )
    return single_in, prepared, single_out, outputs


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """The outputs, and vᵀJ: the gradient of Σ v · func(inputs).

    >>> import chainrule as torch
    >>> torch.autograd.functional.vjp(lambda x: x**2, torch.tensor([1.0, 2.0]), torch.ones(2))[1]
    tensor([2., 4.])
    """
    with enable_grad():
        single_in, prepared, single_out, outputs = _run(func, inputs, create_graph, strict, "vjp")
        given = _check_v(v, outputs, single_out, "output")
        found = _gradients(outputs, prepared, given, create_graph, strict)
    return _pack(_finish(outputs, create_graph), single_out), _pack(_finish(found, create_graph), single_in)


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """The outputs, and J v: the derivative of func in direction v (by differentiating vᵀJ, which is linear in v)."""
    with enable_grad():
        _, prepared, single_out, outputs = _run(func, inputs, create_graph, strict, "jvp")
        direction = _check_v(v, prepared, True, "input")
        dummies = tuple(wrap(np.zeros_like(o._array)).requires_grad_() for o in outputs)
        pulled = _gradients(outputs, prepared, dummies, True, strict)
        found = _gradients(pulled, dummies, direction, create_graph, False)
    return _pack(_finish(outputs, create_graph), single_out), _pack(_finish(found, create_graph), single_out)


def _row(outputs: tuple[Any, ...], k: int, entry: int) -> list[Any]:
    unit = np.zeros(outputs[k]._array.size, outputs[k]._array.dtype)
    unit[entry] = 1
    return [wrap(unit.reshape(outputs[k]._array.shape))]


def jacobian(
    func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The Jacobian: for each output and input a tensor of shape output.shape + input.shape.

    >>> import chainrule as torch
    >>> torch.autograd.functional.jacobian(lambda x: x**2, torch.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    stack = registry["stack"].call
    reshape = registry["reshape"].call
    with enable_grad():
        single_in, prepared, single_out, outputs = _run(func, inputs, create_graph, strict, "jacobian")
        whole: list[tuple[Any, ...]] = []
        for k, out in enumerate(outputs):
            rows = [
                _gradients((out,), prepared, _row(outputs, k, e), create_graph, strict) for e in range(out._array.size)
            ]
            columns: list[Any] = []
            for i, t in enumerate(prepared):
                shape = (*out._array.shape, *t._array.shape)
                if rows:
                    columns.append(reshape(stack(*(r[i] for r in rows), dim=0), shape=shape))
                else:
                    columns.append(wrap(np.zeros(shape, t._array.dtype)))
            whole.append(_finish(tuple(columns), create_graph))
    packed = tuple(_pack(columns, single_in) for columns in whole)
    return packed[0] if single_out else packed


def _scalar(outputs: tuple[Any, ...], single: bool, name: str) -> Any:
    if not single or len(outputs) != 1:
        raise GradientError(message("The function given to " + name + " should return a single Tensor"))
    if outputs[0]._array.size != 1 or outputs[0]._array.ndim > 1:
        raise GradientError(
            message(
                f"The Tensor returned by the function given to {name} should contain a single element",
                f"it has shape {tuple(outputs[0].shape)}",
            )
        )
    return outputs[0]


def hessian(
    func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The Hessian of a function with one number as its value: for each pair of inputs a tensor."""
    single_in, given = _as_tuple(inputs, "inputs", "hessian")

    def gradient(*xs: Any) -> Any:
        single, outputs = _call(func, xs, "hessian")
        out = _scalar(outputs, single, "hessian")
        return _gradients((out,), xs, [wrap(np.ones_like(out._array))], True, strict)

    found = jacobian(gradient, given, create_graph, strict)
    return found[0][0] if single_in else found


def _second(func: Callable[..., Any], inputs: Any, v: Any, create_graph: bool, strict: bool, name: str) -> Any:
    single_in, prepared, single_out, outputs = _run(func, inputs, create_graph, strict, name)
    out = _scalar(outputs, single_out, name)
    direction = _check_v(v, prepared, single_in, "input")
    first = _gradients((out,), prepared, [wrap(np.ones_like(out._array))], True, strict)
    return single_in, prepared, out, direction, first


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """The value, and vᵀH."""
    with enable_grad():
        single_in, prepared, out, direction, first = _second(func, inputs, v, create_graph, strict, "vhp")
        found = _gradients(first, prepared, direction, create_graph, strict)
    return _finish((out,), create_graph)[0], _pack(_finish(found, create_graph), single_in)


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """The value, and H v. (The Hessian is symmetric, so this is vᵀH.)"""
    return vhp(func, inputs, v, create_graph, strict)
