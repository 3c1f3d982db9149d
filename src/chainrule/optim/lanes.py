"""How an update rule meets the parameters: one formula, run on few long vectors.

A NumPy call costs about as much on 10 numbers as on 500. So small parameters of a group are gathered into one flat
vector, the formula runs on it once, and the result goes back; large ones are worked on where they are, in pieces that
fit the cache. Each such vector with its state is a ``Lane``. The parameters keep their own memory; their state
(``optimizer.state[p]["exp_avg"]``) is a view of the lane's vector.

While a program is traced, or with ``differentiable=True``, the same formula runs on tensors, parameter by parameter.
"""

from __future__ import annotations

from itertools import chain
from operator import attrgetter, is_, itemgetter
from typing import Any

import numpy as np

from ..core import inplace
from ..core.live import each_run, gradient_read, live_all
from ..core.op import registry
from ..core.state import state
from ..core.variable import Variable, wrap
from .checks import check_modes, number
from .optimizer import Optimizer

__all__ = ["RuleOptimizer", "step_dtype"]

SMALL = 16384
"""Parameters with fewer entries are gathered."""
PIECE = 32768
"""Entries per piece of a long vector: a handful of such pieces fits the second-level cache."""
_CHANGES = 8
"""After so many changes in which parameters have gradients, gathering is given up: it would copy all the time."""

_array_of = attrgetter("_array")


def step_dtype() -> Any:
    """The dtype of step counts, PyTorch's choice."""
    from ..core import dtypes

    return np.float64 if dtypes.default.numpy == np.float64 else np.float32


class Lane:
    """Parameters of one group that are updated as one vector.

    ``aux`` holds what is one number for the whole lane ("step"); ``count`` is the number of updates, this one included.
    """

    __slots__ = ("group", "ps", "arrays", "roots", "dicts", "look", "single", "owned", "slots", "aux", "count", "p",
                 "g", "back", "pieces", "numbers", "seen")  # fmt: skip

    group: dict[str, Any]
    ps: list[Any]
    arrays: list[Any]
    roots: list[Any]
    dicts: list[dict[str, Any]]
    look: Any
    """Takes a parameter's tensors out of its state: a tuple of them, or with ``single`` the only one."""
    single: bool
    owned: list[Any]
    """The arrays of the state's tensors."""
    slots: list[Any]
    aux: dict[str, Any]
    count: int
    p: Any
    g: Any
    back: Any
    pieces: list[slice]
    numbers: list[Any]
    seen: tuple[float, ...]

    def valid(self, states: Any) -> bool:
        """Whether parameters and state still have the memory that this lane works on."""
        # Asked before every step, so the loops are those of map and all.
        if not all(map(is_, map(_array_of, self.ps), self.arrays)):
            return False
        if not all(map(is_, map(states.get, self.ps), self.dicts)):
            return False
        try:
            return all(map(is_, map(_array_of, self.kept()), self.owned))
        except (KeyError, AttributeError):  # an entry is gone, or no tensor any longer
            return False

    def kept(self) -> Any:
        """The state's tensors, parameter by parameter."""
        found = map(self.look, self.dicts) if self.look else ()
        return found if self.single else chain.from_iterable(found)


class RuleOptimizer(Optimizer):
    """An optimizer given by a formula.

    A subclass says which state it keeps (``_slots``: name → start value, or None for zeros; ``_aux``: numbers per
    parameter), how numbers change per step (``_advance``), which numbers the formula needs (``_coefficients``), and
    the formula (``_rule``), written in operators and ops so that it runs on arrays and on tensors.
    """

    _plan: Any = None
    _capturable = "params and state_steps"
    """What a CUDA graph would hold, in the words of PyTorch's refusal."""

    def _slots(self, group: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _aux(self, group: dict[str, Any]) -> dict[str, float]:
        return {"step": 0.0}

    def _advance(self, group: dict[str, Any], aux: dict[str, Any]) -> None:
        step = aux["step"]
        step[()] = step.item() + 1  # a quarter of the time of += on an array without dims

    def _counts(self, group: dict[str, Any]) -> bool:
        """Whether anything depends on how many steps there were (and ``_advance`` has something to do)."""
        return True

    def _coefficients(self, group: dict[str, Any], aux: dict[str, float], count: int) -> tuple[float, ...]:
        raise NotImplementedError

    def _rule(self, group: dict[str, Any], c: Any, p: Any, g: Any, *slots: Any) -> tuple[Any, ...]:
        raise NotImplementedError

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plan = None

    def step(self, closure: Any = None) -> Any:
        """Update the parameters once.

        Args:
            closure: computes the loss again and returns it; called first, with gradients enabled.
        """
        loss = None
        if closure is not None:
            grad, state.grad = state.grad, True
            try:
                loss = closure()
            finally:
                state.grad = grad
        differentiable = self.defaults.get("differentiable")
        if state.recorder is not None or differentiable:
            for group in self.param_groups:
                for p in group["params"]:
                    gradient_read(p)
            grad, state.grad = state.grad, state.grad and bool(differentiable)
            try:
                for lane in self._lanes():
                    self._run_tensors(lane)
            finally:
                state.grad = grad
        else:
            self._update()
        return loss

    def _update(self) -> None:
        """One update on arrays."""
        for lane in self._lanes():
            self._run(lane)

    # --- which lanes ----------------------------------------------------------------------------------------------

    def _lanes(self) -> list[Lane]:
        """The lanes for the parameters that have gradients now, remembered from the last step where possible."""
        plan = self._plan
        groups = self.param_groups
        if plan is not None and len(plan[1]) == len(groups):
            lanes, params, idle = plan
            states = self.state
            if (
                all(len(g["params"]) == len(ps) and all(map(is_, g["params"], ps)) for g, ps in zip(groups, params))
                and all(lane.group is groups[i] for i, lane in lanes)
                and all(p._grad is not None for _, lane in lanes for p in lane.ps)
                and all(p._grad is None for p in idle)
                and all(lane.valid(states) for _, lane in lanes)
            ):
                return [lane for _, lane in lanes]
        return self._replan()

    def _replan(self) -> list[Lane]:
        self._changes = getattr(self, "_changes", -1) + 1
        small = SMALL if self._changes < _CHANGES else 0
        counts = {id(p): lane.count for _, lane in self._plan[0] for p in lane.ps} if self._plan else {}
        lanes: list[tuple[int, Lane]] = []
        idle: list[Any] = []
        for i, group in enumerate(self.param_groups):
            check_modes(group, self._capturable)
            gathered: dict[Any, list[Any]] = {}
            names = self._slots(group)
            for p in group["params"]:
                if p._grad is None:
                    idle.append(p)
                    continue
                if p._grad._array.shape != p._array.shape:
                    raise RuntimeError(
                        f"the gradient has shape {list(p._grad._array.shape)}, its parameter {list(p._array.shape)}"
                    )
                known = self.state.get(p) or {}
                aux = self._aux(group)
                if aux and all(k in known for k in aux):
                    aux = {k: float(number(known[k])) for k in aux}
                started = any(k in known for k in names)
                count = counts.get(id(p)) or int(aux.get("step", 1)) if started or not names else 0
                key: tuple[Any, ...] = (p._array.dtype, tuple(aux.values()), started)
                if p._array.size >= small or not p._array.flags.c_contiguous:
                    key = (*key, id(p))
                gathered.setdefault(key, []).append((p, aux, count))
            lanes += [(i, self._lane(group, members, names)) for members in gathered.values()]
        self._plan = (lanes, [list(g["params"]) for g in self.param_groups], idle)
        return [lane for _, lane in lanes]

    def _lane(self, group: dict[str, Any], members: list[Any], names: dict[str, Any]) -> Lane:
        lane = Lane()
        lane.group = group
        lane.ps = [p for p, _, _ in members]
        lane.arrays = [p._array for p in lane.ps]
        lane.roots = [inplace.owner(a) for a in lane.arrays]
        lane.count = members[0][2]
        dtype, sizes = lane.arrays[0].dtype, [a.size for a in lane.arrays]
        total = sum(sizes)
        saved = self.state.get(lane.ps[0]) or {}
        lane.aux = {
            k: np.array(v, saved[k]._array.dtype if isinstance(saved.get(k), Variable) else step_dtype())
            for k, v in members[0][1].items()
        }
        alone = len(members) == 1 and lane.arrays[0].flags.c_contiguous
        lane.p = lane.arrays[0].reshape(-1) if alone else np.empty(total, dtype)
        lane.g = None if alone else np.empty(total, dtype)
        ends = np.cumsum(sizes)
        spans = [slice(int(e) - n, int(e)) for e, n in zip(ends, sizes)]
        lane.back = None if alone else [lane.p[s].reshape(a.shape) for s, a in zip(spans, lane.arrays)]
        lane.pieces = [slice(s, s + PIECE) for s in range(0, total, PIECE)] if total > PIECE else []
        # Plain SGD keeps nothing, and its state_dict shows nothing.
        lane.dicts = [self.state[p] if names or lane.aux else self.state.get(p) for p in lane.ps]
        for k, v in lane.aux.items():
            for d in lane.dicts:
                d[k] = wrap(v)
        lane.slots = []
        for name, start in names.items():
            old = [d.get(name) for d in lane.dicts]
            first = old[0]
            if alone and first is not None and first._array.dtype == dtype and first._array.flags.c_contiguous:
                lane.slots.append(first._array.reshape(-1))
                continue
            flat = np.zeros(total, dtype) if start is None else np.full(total, start, dtype)
            for d, t, s, a in zip(lane.dicts, old, spans, lane.arrays):
                view = flat[s].reshape(a.shape)
                if t is not None:
                    view[...] = t._array
                d[name] = wrap(view)
            lane.slots.append(flat)
        every = (*lane.aux, *names)
        lane.look, lane.single = itemgetter(*every) if every else None, len(every) == 1
        lane.owned = [t._array for t in lane.kept()]
        lane.numbers, lane.seen = [], ()
        return lane

    def _separate(self, state: Any) -> Any:
        # A lane counts its steps once for all of its parameters. In a file those would be tensors that share memory,
        # and PyTorch, which counts per parameter, would count on one counter as often as there are parameters.
        if not isinstance(state, dict):
            return state
        counters = {k: wrap(v._array.copy()) for k, v in state.items() if isinstance(v, Variable) and not v._array.ndim}
        return {**state, **counters}

    # --- the update -----------------------------------------------------------------------------------------------

    def _run(self, lane: Lane) -> None:
        """On arrays, in place."""
        group = lane.group
        if lane.back is None:
            g = lane.ps[0]._grad._array.reshape(-1)
        else:
            # A list of arrays, flattened and joined in one call.
            g = np.concatenate([p._grad._array for p in lane.ps], axis=None, out=lane.g)
            np.concatenate(lane.arrays, axis=None, out=lane.p)
        lane.count += 1
        self._advance(group, lane.aux)
        c = self._coefficients(group, lane.aux, lane.count)
        if c != lane.seen:
            # 0-d arrays multiply a short vector in two thirds of the time that Python numbers take.
            if len(c) != len(lane.numbers):
                lane.numbers = [np.array(x, lane.p.dtype) for x in c]
            else:
                for x, old, array in zip(c, lane.seen, lane.numbers):
                    if x != old:
                        array.fill(x)
            lane.seen = c
        if lane.pieces:
            for s in lane.pieces:
                self._rule(group, lane.numbers, lane.p[s], g[s], *[x[s] for x in lane.slots])
        else:
            self._rule(group, lane.numbers, lane.p, g, *lane.slots)
        if lane.back is not None:
            for a, view in zip(lane.arrays, lane.back):
                np.copyto(a, view)
        inplace.touch_all(lane.roots)

    def _run_tensors(self, lane: Lane) -> None:
        """On tensors: the same formula, as ops that a recorder sees (or that gradients flow through)."""
        group = lane.group

        def advance() -> None:
            lane.count += 1
            self._advance(group, lane.aux)

        def save() -> Any:
            count, aux = lane.count, {k: np.copy(v) for k, v in lane.aux.items()}

            def back() -> None:
                lane.count = count
                for k, v in aux.items():
                    lane.aux[k][...] = v

            return back

        if self._counts(group):
            each_run(advance, save)
            options = False
        else:
            lane.count += 1  # that there was a step at all
            options = all(not isinstance(x, (Variable, np.ndarray)) for x in group.values())
        size = len(self._coefficients(group, lane.aux, lane.count))
        c = live_all(lambda: self._coefficients(group, lane.aux, lane.count), size, options)
        for p, d in zip(lane.ps, lane.dicts):
            slots = [d[name] for name in self._slots(group)]
            # The formula writes to its slots. Where gradients flow, to copies: what the tape saved of them stays.
            given = [t.clone() for t in slots] if group.get("differentiable") else slots
            for t, value in zip((p, *slots), self._rule(group, c, p, p._grad, *given)):
                if value._array.dtype is not t._array.dtype:
                    value = registry["cast"].call(value, dtype=t._array.dtype)
                if value is not t:
                    inplace.write(t, value)
