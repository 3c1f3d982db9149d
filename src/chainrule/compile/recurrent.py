"""GRU and plain recurrent layers, unrolled into ops: residuals in the layout of the NumPy bodies, step by step.

What one step hands to its backward step is stacked here and taken apart there; where both are in one program, the
simplifier drops the stack.
"""

from __future__ import annotations

from typing import Any

from .formulas import call, formula, total

__all__: list[str] = []

LONGEST = 256
"""Steps; a longer sequence would make too much code and stays with NumPy."""


def _steps(v: Any) -> list[Any]:
    return list(call("unbind", v, dim=0))


def _stack(parts: list[Any]) -> Any:
    return call("stack", *parts, dim=0)


def _too_long(*shapes: Any) -> bool:
    return shapes[0][0] > LONGEST or any(0 in s for s in shapes)


def _gate_inputs(x: Any, w_ih: Any, bias: Any, reverse: bool) -> list[Any]:
    """x Wᵀ + b for all steps in one product, in the order of walking."""
    t, n, i = x.shape
    z = call("matmul", call("reshape", x, shape=(t * n, i)), call("swap", w_ih))
    if bias is not None:
        z = z + bias
    steps = _steps(call("reshape", z, shape=(t, n, z.shape[1])))
    return steps[::-1] if reverse else steps


def _masks(mask: Any, t: int, reverse: bool) -> list[Any]:
    if mask is None:
        return [None] * t
    return _steps(mask)[::-1] if reverse else _steps(mask)


def _weight_gradients(ds: list[Any], x: Any, w_ih: Any, reverse: bool) -> tuple[Any, Any, Any]:
    """Gradients of x, W and b from those of x Wᵀ + b, given from the last step walked to the first."""
    t, n, i = x.shape
    flat = call("reshape", _stack(ds if reverse else ds[::-1]), shape=(t * n, ds[0].shape[1]))
    dx = call("reshape", call("matmul", flat, w_ih), shape=(t, n, i))
    dw = call("matmul", call("swap", flat), call("reshape", x, shape=(t * n, i)))
    return dx, dw, total(flat, (0,), False)


def _state_gradients(ds: list[Any], states: list[Any]) -> Any:
    """Gradient of U from those of U h, given from the last step walked to the first."""
    t, (n, k) = len(ds), states[0].shape
    flat = call("reshape", _stack(ds[::-1]), shape=(t * n, ds[0].shape[1]))
    return call("matmul", call("swap", flat), call("reshape", _stack(states[:-1]), shape=(t * n, k)))


def _live(mask: Any, dh: Any) -> tuple[Any, Any]:
    """The gradient that enters the step, and what passes it by where the sequence has ended."""
    if mask is None:
        return dh, None
    return call("where", mask, dh, 0.0), call("where", mask, 0.0, dh)


@formula("gru")
def _gru(*inputs: Any, reverse: bool) -> Any:
    x, h, w_ih, w_hh, b_ih, b_hh, mask = inputs
    if _too_long(x.shape, h.shape):
        return None
    k = h.shape[1]
    w = call("clone", call("swap", w_hh))  # brought into row order once, not in every step
    acts: list[Any] = []
    products: list[Any] = []
    states = [h]
    for a, m in zip(_gate_inputs(x, w_ih, b_ih, reverse), _masks(mask, x.shape[0], reverse), strict=True):
        u = call("matmul", h, w)
        if b_hh is not None:
            u = u + b_hh
        (ar, az, an), (ur, uz, un) = (call("split", v, sizes=(k, k, k), dim=1) for v in (a, u))
        r, z = call("sigmoid", ar + ur), call("sigmoid", az + uz)
        new = call("tanh", an + r * un)
        after = (h - new) * z + new
        h = after if m is None else call("where", m, after, h)
        acts.append(call("cat", r, z, new, dim=1))
        products.append(un)
        states.append(h)
    out = states[:0:-1] if reverse else states[1:]
    return _stack(out), _stack(acts), _stack(products), _stack(states)


@formula("gru_backward")
def _gru_backward(
    g: Any, x: Any, w_ih: Any, w_hh: Any, mask: Any, acts: Any, h_new: Any, states: Any, *, reverse: bool
) -> Any:
    if _too_long(x.shape, h_new.shape):
        return None
    t, _, k = h_new.shape
    given = _steps(g)[::-1] if reverse else _steps(g)
    gates, products, before, masks = _steps(acts), _steps(h_new), _steps(states), _masks(mask, t, reverse)
    dxs: list[Any] = []
    dus: list[Any] = []
    dh: Any = None
    for s in range(t - 1, -1, -1):
        r, z, new = call("split", gates[s], sizes=(k, k, k), dim=1)
        dh, rest = _live(masks[s], given[s] if dh is None else dh + given[s])
        dn = dh * ((1 - z) * (1 - new * new))
        dr = dn * (products[s] * r * (1 - r))
        dz = dh * ((before[s] - new) * z * (1 - z))
        dxs.append(call("cat", dr, dz, dn, dim=1))
        dus.append(call("cat", dr, dz, dn * r, dim=1))
        dh = dh * z + call("matmul", dus[-1], w_hh)
        dh = dh if rest is None else dh + rest
    dx, dw_ih, db_ih = _weight_gradients(dxs, x, w_ih, reverse)
    db_hh = total(call("reshape", _stack(dus), shape=(t * x.shape[1], 3 * k)), (0,), False)
    return dx, dh, dw_ih, _state_gradients(dus, before), db_ih, db_hh


@formula("rnn")
def _rnn(*inputs: Any, reverse: bool, nonlinearity: str) -> Any:
    x, h, w_ih, w_hh, b_ih, b_hh, mask = inputs
    if _too_long(x.shape, h.shape):
        return None
    w = call("clone", call("swap", w_hh))
    states = [h]
    bias = None if b_ih is None else b_ih + b_hh
    for z, m in zip(_gate_inputs(x, w_ih, bias, reverse), _masks(mask, x.shape[0], reverse), strict=True):
        after = call(nonlinearity, call("matmul", h, w) + z)
        h = after if m is None else call("where", m, after, h)
        states.append(h)
    return _stack(states[:0:-1] if reverse else states[1:]), _stack(states)


@formula("rnn_backward")
def _rnn_backward(
    g: Any, x: Any, w_ih: Any, w_hh: Any, mask: Any, states: Any, *, reverse: bool, nonlinearity: str
) -> Any:
    if _too_long(x.shape, states.shape):
        return None
    t = x.shape[0]
    given = _steps(g)[::-1] if reverse else _steps(g)
    all_states, masks = _steps(states), _masks(mask, t, reverse)
    ds: list[Any] = []
    dh: Any = None
    for s in range(t - 1, -1, -1):
        h = all_states[s + 1]
        dh, rest = _live(masks[s], given[s] if dh is None else dh + given[s])
        ds.append(dh * (1 - h * h) if nonlinearity == "tanh" else call("where", h > 0, dh, 0.0))
        dh = call("matmul", ds[-1], w_hh)
        dh = dh if rest is None else dh + rest
    dx, dw_ih, db = _weight_gradients(ds, x, w_ih, reverse)
    return dx, dh, dw_ih, _state_gradients(ds, all_states), db, db
