"""``backward_source``: the recorded graph and its backward pass as a NumPy program that a person would have written."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from ..core.state import state
from ..core.variable import Variable
from ..graph.naming import identifier
from ..graph.printer import Printer
from ..graph.program import Instr, Program, Value
from ..graph.replay import Quantity, Replay, Step
from ..graph.simplify import simplify
from ..graph.trace import Recorder
from ..graph.verify import verify
from .explanation import _variables, replayed, unfolded
from .locals import _is_elementwise

__all__ = ["BackwardSource", "backward_source"]


class BackwardSource(str):
    """The text of the program. ``inputs`` maps the names of ``forward``'s parameters to the recorded arrays.

    ``forward(**source.inputs)`` gives ``(loss, cache)``, ``backward(cache)`` the gradients by the leaves' names.
    """

    inputs: dict[str, np.ndarray[Any, Any]]
    program: Program

    def functions(self) -> dict[str, Any]:
        """Run the text and hand out what it defines: ``forward`` and ``backward``."""
        namespace: dict[str, Any] = {}
        exec(compile(self, "<backward_source>", "exec"), namespace)  # noqa: S102 - our own text
        return namespace

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from html import escape

        return f'<pre style="font-size:12px">{escape(self)}</pre>'


def backward_source(loss: Any, *, variables: dict[str, Any] | None = None) -> BackwardSource:
    """The backward pass as stand-alone NumPy source, with the user's names and a reason for every line.

    Running it gives the gradients that ``loss.backward()`` gives, to the last bit.

    Raises:
        GradientError: when the tensor has no graph, or it was freed.

    >>> import chainrule as torch
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> source = backward_source((x * x).sum())
    >>> f = source.functions()
    >>> loss, cache = f["forward"](**source.inputs)
    >>> f["backward"](cache)["x"]
    array([2., 4.], dtype=float32)
    """
    seen = _variables() if variables is None else variables
    recorder = Recorder()
    replay = _Traced(loss, recorder, seen)
    return _Writer(replay, recorder).source()


class _Traced(Replay):
    """A replay whose program also computes the constants that are really functions of the data."""

    def __init__(self, loss: Any, recorder: Recorder, variables: dict[str, Any]) -> None:
        from ..graph.naming import assign_names

        self.notes: dict[int, tuple[Step, int]] = {}
        self.linked: dict[int, Any] = {}
        if not isinstance(loss, Variable):
            replayed(loss)
        super().__init__(unfolded(loss), backward=False, recorder=recorder)
        assign_names(self, variables)
        previous = state.grad, state.recorder
        state.grad, state.recorder = False, recorder
        try:
            seed = np.ones(self.root.array.shape, self.root.array.dtype)
            for step, _, sent in self.walk(seed):
                for i, gi in enumerate(sent):
                    if gi is not None:
                        self.notes.setdefault(id(gi._array), (step, i))
                        self.linked[id(gi._array)] = gi
        finally:
            state.grad, state.recorder = previous
        recorder.at = None


class _Writer:
    def __init__(self, replay: _Traced, recorder: Recorder) -> None:
        self.replay = replay
        self.recorder = recorder
        self.program = recorder.program
        self.names: dict[Value, str] = {}
        self.notes: dict[Value, str] = {}
        self.forward = set(range(replay.boundary))
        self.taken: set[str] = {"np", "cache", "forward", "backward"}

    def value(self, x: Any) -> Value:
        return self.recorder.value(x)

    def _name(self, value: Value, wish: str) -> str:
        name, k = identifier(wish), 1
        while name in self.taken:
            name = f"{identifier(wish)}_{k}"
            k += 1
        self.taken.add(name)
        self.names[value] = name
        return name

    def source(self) -> BackwardSource:
        replay, program = self.replay, self.program
        made_forward = {o for i in program.instrs[: replay.boundary] for o in i.outs}
        grads = [(q, self.value(q.grad)) for q in replay.leaves if q.grad is not None]
        root = self.value(replay.root.tensor)
        program.outputs = [root, *(v for _, v in grads)]
        outside = {self.value(q.tensor): q for q in (*replay.leaves, *replay.consts)}
        named = {self.value(q.tensor): q for q in replay.quantities() if q.name is not None and q.maker is not None}
        inner = [v for v in program.constants if v not in outside]
        instead = simplify(program, inner, [*outside, *named, root])
        verify(program)

        def now(v: Any) -> Any:
            while isinstance(v, Value) and v in instead:
                v = instead[v]
            return v

        # Names: what comes from outside, the forward's variables, then d<name> for their gradients.
        parameters: dict[Value, tuple[str, Any]] = {}
        for v, q in sorted(outside.items(), key=lambda e: e[1].leaf is not None):
            if any(v in i.values for i in program.instrs) or v in program.outputs:
                wish = q.name or (
                    "w"
                    if q.leaf is not None
                    else {"b": "mask", "i": "index", "u": "index"}.get(q.array.dtype.kind, "const")
                )
                parameters[v] = (self._name(v, wish), q)
        for v, q in named.items():
            self._name(v, "loss" if q is replay.root and q.name == "L" else q.name or "t")
        if root not in self.names:
            self._name(root, "loss")
        arrays = {self.recorder._values[id(a)][0]: a for a in self.recorder._kept if id(a) in self.recorder._values}
        self._gradient_names(now, made_forward)
        self._notes(now)

        forward = [i for i in program.instrs if any(o in made_forward for o in i.outs)]
        chosen = set(map(id, forward))
        backward = [i for i in program.instrs if id(i) not in chosen]
        printer = Printer(program, self.names, self.notes, outputs=[v for v in program.outputs if isinstance(v, Value)])
        printer.taken |= self.taken
        for step in self.replay.steps:
            for q in step.outs:
                if q.name is None and q.grad is not None:  # dh_in: what arrives inside the line that makes h
                    inner = now(self.value(q.grad))
                    if isinstance(inner, Value):
                        printer.wishes.setdefault(inner, f"d{identifier(self._near(q))}_in")
        printer.hoisted = set()  # type: ignore[attr-defined]
        backward = _leaves_first(backward, [v for v in program.outputs[1:] if isinstance(v, Value)], grads)
        made = {o for i in forward for o in i.outs}
        printer.crossing = {
            v for i in backward for v in i.values if v in made and v not in self.names and not _view(printer, v)
        } | {v for v in program.outputs if isinstance(v, Value) and v in made}
        for i in forward:
            if i.op.name == "cross_entropy" and _all_equal(arrays.get(i.outs[2])):
                printer.like_number.add(i.outs[2])
        first = printer.part(forward)
        printer.read = set()
        backward = [i for i in backward if i not in printer.hoisted]  # type: ignore[attr-defined]
        second = printer.part(backward)
        result = {}
        for q, v in grads:
            target = now(v)
            if isinstance(target, Value) and target in printer.names:
                printer.read.add(printer.names[target])
                text = printer.names[target]
            else:
                text = ast.unparse(printer.argument(target))
            result[q.name or self.names[self.value(q.tensor)]] = text
        # What the second part reads is what its text names: inlined pieces of the first part included.
        texts = [line for line, _ in second] + list(result.values())
        printer.read |= {n.id for t in texts for n in ast.walk(ast.parse(t)) if isinstance(n, ast.Name)}
        made_second = {line.split(" = ")[0].strip(",") for line, _ in second}
        declared = {n for t in made_second for n in t.replace(",", " ").split()}
        first_names = [n for _, (n, _) in ((v, parameters[v]) for v in parameters)]
        for line, _ in first:
            first_names += [n for n in line.split(" = ")[0].replace(",", " ").split() if n.isidentifier()]
        cached = [n for n in dict.fromkeys(first_names) if n in printer.read and n not in declared and n != "_"]
        text = self._assemble(parameters, first, second, cached, result, printer, self.names[root])
        source = BackwardSource(text)
        source.inputs = {name: q.array for name, q in parameters.values()}
        source.program = program
        return source

    def _gradient_names(self, now: Any, made_forward: set[Value]) -> None:
        """``dz1`` for the gradient of z1; a gradient that several variables share is called after the first of them."""
        leaf_first = [q for step in self.replay.steps for q in step.outs] + self.replay.leaves
        for q in leaf_first:
            if q.name is None or q.grad is None or q is self.replay.root:
                continue
            v = now(self.value(q.grad))
            if isinstance(v, Value) and v not in self.names and v not in self.program.constants:
                name = f"d{identifier(q.name)}"
                self._name(v, name if name not in self.taken else f"dL_{name}")

    # --- comments ---

    def _near(self, q: Quantity) -> str:
        """The name of a quantity, or of the first named one computed from it."""
        seen = 0
        while q.name is None and len(q.readers) >= 1 and q.readers[0].step.outs and seen < 20:
            q = q.readers[0].step.outs[0]
            seen += 1
        return q.name or "result"

    def _notes(self, now: Any) -> None:
        for step in self.replay.steps:
            for q in step.outs:
                v = now(self.value(q.tensor))
                if isinstance(v, Value) and v not in self.notes:
                    self.notes[v] = f"{v.shape}"
        for key, (step, i) in self.replay.notes.items():
            tensor = self.replay.linked[key]
            v = now(self.value(tensor))
            if isinstance(v, Value) and v not in self.notes:
                self.notes[v] = f"{v.shape}  {self._reason(step, i)}"
        for q in self.replay.quantities():
            if q.grad is None or len(q.readers) < 2:
                continue
            v = now(self.value(q.grad))
            if isinstance(v, Value) and v not in self.notes:
                self.notes[v] = f"{v.shape}  {q.name or 'it'} is used {len(q.readers)} times: the gradients add up"

    def _reason(self, step: Step, i: int) -> str:
        op, target, out = step.op, step.args[i], self._near(step.out)
        me = target.name if isinstance(target, Quantity) and target.name else "the input"
        if op.name == "matmul" and all(isinstance(a, Quantity) for a in step.args):
            other = step.args[1 - i]
            if other.name is None:
                return "matmul: x̄ = z̄ yᵀ" if i == 0 else "matmul: ȳ = xᵀ z̄"
            name = other.name
            if i == 0:
                return f"{name}.T: carries the gradient from {out}'s space back to {me}'s"
            return f"every sample's {name} meets its d{out}; the product sums over the batch"
        if op.name == "linear":
            weight = step.args[1]
            if i == 0:
                return f"{weight.name or 'W'}: carries the gradient from {out}'s space back to {me}'s"
            if i == 1:
                return (
                    f"every sample's {step.args[0].name or 'input'} meets its d{out}; the product sums over the batch"
                )
            return f"sum over the batch: {me} was broadcast"
        if isinstance(target, Quantity) and target.array.shape != step.out.array.shape and _is_elementwise(step):
            return f"sum over the batch: {me} was broadcast"
        if op.name == "relu":
            return f"relu′: passes where {me} > 0" + ("" if not op.kink else " (0 at 0)")
        if op.name == "cross_entropy":
            return "softmax and cross-entropy together: p − y" + (
                ", over n for the mean" if step.node.params.get("reduction") == "mean" else ""
            )
        rule = op.rules[0 if op.variadic else i]
        return f"{op.name}: {rule.math}" if rule is not None else op.name

    # --- the text ---

    def _assemble(
        self,
        parameters: Any,
        first: Any,
        second: Any,
        cached: list[str],
        result: dict[str, str],
        printer: Printer,
        root: str,
    ) -> str:
        names = [n for n, _ in parameters.values()]
        out = [f'"""The computation of {root} and its backward pass, in NumPy."""', "", "import numpy as np"]
        out += list(printer.helpers.imports.values())
        helpers = printer.helpers.text()
        if helpers:
            out += ["", "", helpers]
        out += ["", "", f"def forward({', '.join(names)}):"]
        out += [f"    # {n} {q.array.shape} {q.array.dtype}" for n, q in parameters.values()]
        out += _aligned(first)
        out.append("    cache = {" + ", ".join(f'"{n}": {n}' for n in cached) + "}")
        out.append(f"    return {root}, cache")
        out += ["", "", "def backward(cache):"]
        if cached:
            out.append(f"    {', '.join(cached)}{',' if len(cached) == 1 else ''} = cache.values()")
        out += _aligned(second)
        out.append("    return {" + ", ".join(f'"{n}": {t}' for n, t in result.items()) + "}")
        text = "\n".join(out) + "\n"
        if "ml_dtypes." in text:  # where NumPy's bfloat16 comes from
            text = text.replace("import numpy as np", "import ml_dtypes\nimport numpy as np", 1)
        return text


def _leaves_first(instrs: list[Instr], outputs: list[Value], grads: list[tuple[Quantity, Value]]) -> list[Instr]:
    """The order in which a person writes it: a layer's dW and db as soon as its dz is there, then the layer below."""
    import heapq

    place = {v: k for k, v in enumerate(outputs)}
    users: dict[Value, list[int]] = {}
    for k, instr in enumerate(instrs):
        for v in set(instr.values):
            users.setdefault(v, []).append(k)
    rank: dict[int, int] = {}  # what is two steps or less from one leaf's gradient, and leads nowhere else
    steps: dict[int, int] = {}
    for k in range(len(instrs) - 1, -1, -1):
        after = {u for o in instrs[k].outs for u in users.get(o, ())}
        ends = {place[o] for o in instrs[k].outs if o in place} | {rank.get(u, -1) for u in after}
        steps[k] = max((steps[u] + 1 for u in after), default=0)
        if len(ends) == 1 and -1 not in ends and steps[k] <= 2:
            rank[k] = ends.pop()
    made = {o for i in instrs for o in i.outs}
    missing = [len({v for v in i.values if v in made}) for i in instrs]
    ready = [(0, rank[k], k) if k in rank else (1, k, k) for k, n in enumerate(missing) if n == 0]
    heapq.heapify(ready)
    out: list[Instr] = []
    while ready:
        _, _, k = heapq.heappop(ready)
        out.append(instrs[k])
        for o in instrs[k].outs:
            for u in users.get(o, ()):
                missing[u] -= 1
                if missing[u] == 0:
                    heapq.heappush(ready, (0, rank[u], u) if u in rank else (1, u, u))
    return out


def _aligned(lines: list[tuple[str, str]]) -> list[str]:
    width = min(max((len(a) for a, b in lines if b), default=0), 56)
    return [f"    {a:<{width}}  # {b}" if b else f"    {a}" for a, b in lines]


def _view(printer: Printer, v: Value) -> bool:
    """Whether a forward value is a view that the backward part can take again."""
    made: Instr | None = printer.maker.get(v)
    return (
        made is not None
        and made.op.name in ("swap",)
        and isinstance(made.args[0], Value)
        and made.args[0] in printer.names
    )


def _all_equal(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.size > 0 and bool((array == array.reshape(-1)[0]).all())
