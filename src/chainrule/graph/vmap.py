"""``vmap``: a function of one example as a function of a batch of them.

The function runs once, on the first example, and is recorded; the recorded program then runs once on the whole batch,
op by op, by the rules in ``batching``. An op without a rule runs example by example inside the program. What a program
cannot stand for (Python code that looks at values, writes to memory from outside, random numbers of its own for each
example, a custom ``Function`` with a gradient through it) makes the whole function run example by example: slower, and
right. The program is checked before it is trusted: its last result must be that of the function on the last example.

Since everything is ops, results can be differentiated, mapped again and traced.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import pytree
from ..autograd.function import FunctionOp
from ..core.inplace import owner
from ..core.op import registry
from ..core.rng import default_generator
from ..core.state import state
from ..core.variable import Variable, wrap
from .batching import Call, apply_batched
from .program import Instr, Value
from .trace import Recorder

__all__ = ["vmap"]

_RANDOM = (
    "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
    "randomness flags on vmap or perform the randomness operation out of vmap"
)


class _Example(Recorder):
    """Records one example, with what a program alone does not say: tensors behind constants, where gradients flowed."""

    def __init__(self) -> None:
        super().__init__()
        self.at = (None, "")
        self.tensors: dict[Value, Any] = {}
        self.flows: dict[int, tuple[bool, ...]] = {}
        self.custom = False
        self.before: list[tuple[Any, Any]] = []
        self.made: set[int] = set()
        self.alive: list[Any] = []

    def record(self, op: Any, inputs: Any, params: dict[str, Any], arrays: tuple[Any, ...]) -> None:
        on = state.grad
        flags = tuple(on and isinstance(x, Variable) and x._requires for x in inputs)
        for x in inputs:
            self._look(x)
        super().record(op, inputs, params, arrays)
        roots = [owner(a) for a in arrays if type(a) is np.ndarray]
        self.made.update(map(id, roots))
        self.alive += roots  # an id says something only while its array lives
        self.flows[id(self.program.instrs[-1])] = flags

    def _look(self, x: Any) -> None:
        if isinstance(x, Variable) and x._node is not None:
            node = x._node[0] if type(x._node) is tuple else x._node
            self.custom = self.custom or isinstance(node.op, FunctionOp)

    def value(self, x: Any) -> Value:
        found = super().value(x)
        if isinstance(x, Variable) and found in self.program.constants:
            known = self.tensors.get(found)
            if known is None or (x._requires and not known._requires):
                self.tensors[found] = x
        return found

    def writing(self, tensor: Any) -> None:
        """Memory is about to be written. What no op in here made may belong to somebody: keep its content."""
        root = owner(tensor._array)
        if id(root) not in self.made:
            self.before.append((root, root.copy()))

    def restore(self) -> None:
        """Put back what stood in memory from outside."""
        for array, copy in reversed(self.before):
            array[...] = copy


def _name(func: Any) -> str:
    return getattr(func, "__name__", None) or repr(func)


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """The function that applies ``func`` to every slice of its arguments and stacks the results.

    It is run on one example, recorded, and the record is run once on the whole batch (``docs/decisions``); what cannot
    be recorded runs example by example. Unlike PyTorch's, it therefore admits ``.item()`` and Python branches on
    values. Python side effects of ``func`` happen for the first and the last example only, or for each of them.

    Args:
        in_dims: the axis to map over, for each argument (or leaf of a nested one); None: the same for all examples.
        out_dims: where the new axis goes in each result.
        randomness: "error" (random numbers raise), "same" (all examples see the same draws) or "different".
        chunk_size: how many examples to compute at once; None: all.

    Raises:
        ValueError: arguments and ``in_dims`` do not fit, or the mapped axes differ in length.
        RuntimeError: random numbers with ``randomness="error"``.

    >>> import chainrule as torch
    >>> torch.vmap(torch.dot)(torch.arange(6.0).reshape(3, 2), torch.ones(3, 2))
    tensor([1., 5., 9.])
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        one = _Mapped(func, in_dims, out_dims, randomness, args, kwargs)
        if chunk_size is None or chunk_size >= one.size:
            return one.run()
        parts = [one.part(i, chunk_size).run() for i in range(0, one.size, chunk_size)]
        leaves = [pytree.tree_flatten(p) for p in parts]
        dims = one.out_places(leaves[0][1], len(leaves[0][0]))
        joined = [
            column[0] if d is None else registry["cat"].call(*column, dim=d % column[0]._array.ndim)
            for d, column in zip(dims, zip(*(flat for flat, _ in leaves)))
        ]
        return pytree.tree_unflatten(joined, leaves[0][1])

    return mapped


class _Mapped:
    """One call of a mapped function: its flat arguments, where each is mapped, and the batch size."""

    def __init__(
        self, func: Any, in_dims: Any, out_dims: Any, randomness: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.func, self.out_dims, self.randomness, self.kwargs = func, out_dims, randomness, kwargs
        called = f"vmap({_name(func)}, in_dims={in_dims}, ...)(<inputs>)"
        if not isinstance(in_dims, (int, tuple)):
            raise ValueError(
                f"{called}: expected `in_dims` to be int or a (potentially nested) tuple matching the structure of "
                f"inputs, got: {type(in_dims)}."
            )
        if not args:
            raise ValueError(
                f"vmap({_name(func)})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to "
                "vmap over a function with no inputs. The latter is unsupported."
            )
        flat, self.spec = pytree.tree_flatten(args)
        dims = pytree._broadcast_to_and_flatten(in_dims, self.spec)
        if dims is None:
            raise ValueError(
                f"{called}: in_dims is not compatible with the structure of `inputs`. in_dims has structure "
                f"{pytree.tree_flatten(in_dims)[1]} but inputs has structure {self.spec}."
            )
        sizes: list[int] = []
        for i, (x, d) in enumerate(zip(flat, dims)):
            if d is None:
                continue
            if not isinstance(d, int):
                raise ValueError(
                    f"{called}: Got in_dim={d} for an input but in_dim must be either an integer dimension or None."
                )
            if not isinstance(x, Variable):
                raise ValueError(
                    f"{called}: Got in_dim={d} for an input but the input is of type {type(x)}. We cannot vmap over "
                    "non-Tensor arguments, please use None as the respective in_dim"
                )
            rank = x._array.ndim
            if not -rank <= d < rank:
                raise ValueError(
                    f"{called}: Got in_dim={d} for some input, but that input is a Tensor of dimensionality {rank} so "
                    f"expected in_dim to satisfy -{rank} <= in_dim < {rank}."
                )
            dims[i] = d % rank
            sizes.append(x._array.shape[d])
        if not sizes:
            raise ValueError(f"{called}: at least one input must be mapped: all in_dims are None.")
        if len(set(sizes)) > 1:
            raise ValueError(
                "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
                f"{sizes} for the mapped dimension"
            )
        self.flat, self.dims, self.size = flat, dims, sizes[0]

    def part(self, start: int, count: int) -> _Mapped:
        """The same call on a range of the batch."""
        other: _Mapped = object.__new__(_Mapped)
        other.__dict__.update(self.__dict__)
        other.size = min(count, self.size - start)
        other.flat = [x if d is None else x.narrow(d, start, other.size) for x, d in zip(self.flat, self.dims)]
        return other

    # --- one example ----------------------------------------------------------------------------------------------

    def example(self, i: int) -> list[Any]:
        """The flat arguments of example i."""
        return [
            x if d is None else registry["getitem"].call(x, key=(*(slice(None),) * d, i))
            for x, d in zip(self.flat, self.dims)
        ]

    def _solid(self, i: int) -> list[Any]:
        """Example i with its entries in a row, so that ``view`` works on it whatever axis is mapped."""
        return [
            x if d is None or x._array.flags.c_contiguous else registry["clone"].call(x)
            for x, d in zip(self.example(i), self.dims)
        ]

    def call(self, flat: list[Any]) -> tuple[list[Any], Any]:
        result = self.func(*pytree.tree_unflatten(flat, self.spec), **self.kwargs)
        leaves, spec = pytree.tree_flatten(result)
        for x in leaves:
            if not isinstance(x, Variable):
                name = _name(self.func)
                raise ValueError(
                    f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(x)}. Did you mean to set "
                    "out_dims= to None for output?"
                )
        return leaves, spec

    def out_places(self, spec: Any, count: int) -> list[Any]:
        """Where the new axis goes in each result."""
        places = pytree._broadcast_to_and_flatten(self.out_dims, spec)
        if places is None:
            name = _name(self.func)
            raise ValueError(
                f"vmap({name}, ..., out_dims={self.out_dims}): out_dims is not compatible with the structure of "
                f"`outputs`. out_dims has structure {pytree.tree_flatten(self.out_dims)[1]} but outputs has structure "
                f"{spec}."
            )
        return places

    # --- the whole batch --------------------------------------------------------------------------------------------

    def run(self) -> Any:
        if self.size == 0:
            raise RuntimeError("vmap: the mapped dimension has size 0, so there is no example to run the function on")
        found = self._program() if self.size > 1 and self.randomness != "different" else None
        leaves, spec, batched = found or self._each()
        out: list[Any] = []
        for x, b, d in zip(leaves, batched, self.out_places(spec, len(leaves))):
            if d is None:
                if b:
                    name = _name(self.func)
                    raise ValueError(f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None")
                out.append(x)
                continue
            if not b:
                x = registry["expand"].call(
                    registry["reshape"].call(x, shape=(1, *x._array.shape)), shape=(self.size, *x._array.shape)
                )
            place = d % x._array.ndim
            order = [i for i in range(x._array.ndim) if i]
            order.insert(place, 0)
            out.append(x if place == 0 else registry["permute"].call(x, dims=tuple(order)))
        return pytree.tree_unflatten(out, spec)

    def _each(self) -> tuple[list[Any], Any, list[bool]]:
        """Example by example."""
        before = default_generator.get_state()
        columns: list[list[Any]] = []
        spec: Any = None
        for i in range(self.size):
            if i and self.randomness == "same":
                default_generator.set_state(before)
            leaves, spec = self.call(self.example(i))
            columns.append(leaves)
            if not i and self.randomness == "error":
                self._no_draws(before)
        places = self.out_places(spec, len(columns[0]))
        stacked = [
            column[0] if d is None and all(c._array is column[0]._array for c in column)
            else registry["stack"].call(*column, dim=0)
            for d, column in zip(places, zip(*columns))
        ]  # fmt: skip
        return stacked, spec, [d is not None or x is not c[0] for d, x, c in zip(places, stacked, zip(*columns))]

    def _no_draws(self, before: Any) -> None:
        if not np.array_equal(before._array, default_generator.get_state()._array):
            default_generator.set_state(before)
            raise RuntimeError(_RANDOM)

    def _program(self) -> tuple[list[Any], Any, list[bool]] | None:
        """The whole batch at once; None when the function has to run example by example."""
        outer, state.recorder = state.recorder, None
        draws = default_generator.get_state()
        try:
            first = self._solid(0)
            recorder = _Example()
            inputs: dict[Value, Any] = {}
            for x, t, d in zip(self.flat, first, self.dims):
                if d is not None:
                    recorder.input(t)
                    inputs[recorder.program.inputs[-1]] = (x, d)
            with recorder:
                leaves, spec = self.call(first)
            if self.randomness == "error":
                self._no_draws(draws)
            if recorder.before:
                recorder.restore()
            unseen = recorder.before or recorder.leaks or recorder.apart
            if unseen or (recorder.custom and state.grad) or any(_custom(x) for x in leaves):
                default_generator.set_state(draws)
                return None
            program = recorder.finish(leaves)
            after = default_generator.get_state()
            default_generator.set_state(draws)
            expected, _ = self.call(self._solid(self.size - 1))
            default_generator.set_state(after)
        finally:
            state.recorder = outer
        run = _Run(recorder, self.size)
        for value, (x, d) in inputs.items():
            order = (d, *(i for i in range(x._array.ndim) if i != d))
            run.values[value] = (registry["permute"].call(x, dims=order) if d else x, True)
        for instr in program.instrs:
            run.step(instr)
        results, batched = [], []
        for leaf, value, right in zip(leaves, program.outputs, expected):
            x, b = run.get(value)
            if not leaf._requires and x._requires:
                x = x.detach()
            if not _agree(x._array[-1] if b else x._array, right._array):
                return None
            results.append(x)
            batched.append(b)
        return results, spec, batched


def _custom(x: Any) -> bool:
    node = x._node[0] if type(x._node) is tuple else x._node
    return node is not None and isinstance(node.op, FunctionOp)


def _agree(a: Any, b: Any) -> bool:
    """Whether the program's result is the function's, up to the rounding of another order of summation."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    eps = float(np.finfo(a.dtype).eps) if a.dtype.itemsize > 2 else 1e-2
    with np.errstate(all="ignore"):
        finite = b[np.isfinite(b)]
        scale = float(np.abs(finite).max(initial=0.0))
    return bool(np.allclose(a, b, rtol=2e4 * eps, atol=2e3 * eps * scale, equal_nan=True))


class _Run:
    """Values of the program on the batch: a tensor, and whether the batch is its first axis."""

    def __init__(self, recorder: _Example, size: int) -> None:
        self.recorder, self.size = recorder, size
        self.values: dict[Value, tuple[Any, bool]] = {}

    def get(self, value: Value) -> tuple[Any, bool]:
        found = self.values.get(value)
        if found is None:
            tensor = self.recorder.tensors.get(value)
            found = (wrap(self.recorder.program.constants[value]) if tensor is None else tensor, False)
            self.values[value] = found
        return found

    def step(self, instr: Instr) -> None:
        flows = self.recorder.flows.get(id(instr))
        args: list[Any] = []
        batched: list[bool] = []
        ranks: list[int] = []
        for i, a in enumerate(instr.args):
            if not isinstance(a, Value):
                args.append(a)
                batched.append(False)
                ranks.append(0)
                continue
            x, b = self.get(a)
            if x._requires and flows is not None and not flows[i]:
                x = x.detach()  # the function had cut it off there: detach(), no_grad
            args.append(x)
            batched.append(b)
            ranks.append(len(a.shape))
        count = len(instr.outs) - len(instr.op.residuals)
        mapped = any(batched)
        call = Call(
            instr.op, tuple(args), tuple(batched), tuple(ranks), instr.params, self.size,
            tuple(v.shape for v in instr.outs[:count]),
        )  # fmt: skip
        out = apply_batched(call) if mapped else instr.op.call(*args, **instr.params)
        outs = out if instr.op.outputs != 1 else (out,)
        for value, x in zip(instr.outs, outs):
            self.values[value] = (x, mapped)
        if count < len(instr.outs):
            self._residuals(instr, call, count, mapped)

    def _residuals(self, instr: Instr, call: Call, count: int, mapped: bool) -> None:
        """Values that only the op's own backward rule reads; computed when a later instruction does."""
        wanted = [v for v in instr.outs[count:] if v in self._used()]
        if not wanted:
            return
        arrays = [a._array if isinstance(a, Variable) else a for a in call.args]
        rows = [
            instr.op.body(*(a[i] if b else a for a, b in zip(arrays, call.batched)), **instr.params)[count:]
            for i in range(self.size if mapped else 1)
        ]
        for value, column in zip(instr.outs[count:], zip(*rows)):
            self.values[value] = (wrap(np.stack(column) if mapped else np.asarray(column[0])), mapped)

    def _used(self) -> set[Value]:
        if not hasattr(self, "_reads"):
            self._reads = {v for instr in self.recorder.program.instrs for v in instr.values}
        return self._reads
