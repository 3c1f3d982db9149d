"""What an op is: a name, a NumPy body, one backward rule per input, and the facts that readers need.

    @op("*s -> *s", formula="exp({x})", samples=real(-2, 2))
    def exp(x):
        return np.exp(x)

    @exp.vjp("x", math="x̄ = ȳ · y")
    def _(g, out):
        return g * out

Positional parameters are arrays, keyword-only parameters are settings (``dim``, ``keepdim``). The parameters of a rule
say what the tape saves, by name: ``out``, an input, a setting, a residual, or ``x_shape`` / ``x_dtype`` of an input.

Importing the library registers hundreds of ops, so registration does little: it reads names off code objects, and what
can wait (how to pick the saved values) waits for first use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from . import dispatch
from .node_names import plain

__all__ = ["REQUIRED", "Op", "OpFunction", "Rule", "op", "registry"]

registry: dict[str, Op] = {}
"""Every op by name. Readers and tests walk it."""


class _Required:
    __slots__ = ()

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Any = _Required()
"""The default of a setting that has none."""


class Rule:
    """The vector-Jacobian product with respect to one input.

    * ``names``: what the rule wants after ``g``, by its parameter names.
    * ``kinds``: for each name the input's index, "inputs" (all, of a variadic op), "out", or "const" (a setting, a
      shape, a residual).
    * ``save(arrays, out, residuals, params)`` picks the values for ``names``; made when first used.
    * ``math``: the rule as mathematics, x̄ being the gradient with respect to input x and ȳ to the output.
    """

    __slots__ = ("op", "input", "fn", "names", "kinds", "save", "math")

    def __init__(self, described: Op, input: str, fn: Callable[..., Any], math: str) -> None:
        code: Any = getattr(fn, "__code__")  # noqa: B009 - Callable has no __code__ for the type checker
        self.op = described
        self.input = input
        self.fn = fn
        self.math = math
        self.names: tuple[str, ...] = code.co_varnames[1 : code.co_argcount]
        picks = [_pick(described, name) for name in self.names]
        self.kinds: tuple[Any, ...] = tuple(kind for kind, _ in picks)
        source = f"lambda a, out, r, p: ({''.join(text + ', ' for _, text in picks)})"

        def first(*values: Any) -> tuple[Any, ...]:
            self.save = eval(source, described.settings)  # noqa: S307 - made of parameter names only
            return self.save(*values)

        self.save: Callable[..., tuple[Any, ...]] = first


def _pick(described: Op, name: str) -> tuple[Any, str]:
    """Kind and source text of one saved value (a: input arrays, r: residuals, p: settings as given)."""
    if name == "out":
        return "out", "out"
    if name in described.inputs:
        i = described.inputs.index(name)
        return ("inputs", "tuple(a)") if described.variadic else (i, f"a[{i}]")
    if name in described.residuals:
        return "const", f"r[{described.residuals.index(name)}]"
    if name in described.settings:
        return "const", f"p[{name!r}]" if described.settings[name] is REQUIRED else f"p.get({name!r}, {name})"
    stem, _, attribute = name.rpartition("_")
    if attribute in ("shape", "dtype"):
        if stem == "out":
            return "const", f"out.{attribute}"
        if stem in described.inputs:
            if described.variadic:
                return "const", f"tuple(t.{attribute} for t in a)"
            return "const", f"a[{described.inputs.index(stem)}].{attribute}"
    known = (*described.inputs, "out", *described.residuals, *described.settings)
    raise TypeError(f"a vjp of {described.name} asks for {name!r}; it can have {', '.join(known)}, x_shape, x_dtype")


class Op:
    """The description of an op. ``rules[i]`` belongs to input i; None where no gradient exists.

    * ``body``: the NumPy function; ``call``: the function that dispatches to it.
    * ``inputs``: names of the arrays; ``variadic``: any number of them; ``settings``: the keyword parameters with
      their defaults (``REQUIRED`` where there is none).
    * ``outputs``: their number, None when it depends on the arguments; ``residuals``: names of the values that the
      body returns after them, for the rules only.
    * ``numpy``: the op as NumPy source, empty when the body's own source is to be used.
    * ``broadcasts``: inputs are broadcast; ``is_view``: the output shares memory with the first input.
    * ``derived``: for a shortcut, the composite it is proved equal to.
    * ``kink``: the derivative where none exists; ``samples``: calls to test; ``reference``: PyTorch's name for it.
    """

    __slots__ = (
        "name", "body", "call", "signature", "formula", "inputs", "variadic", "settings", "residuals", "outputs",
        "numpy", "broadcasts", "is_view", "derived", "kink", "samples", "reference", "rules",
    )  # fmt: skip

    name: str
    body: Callable[..., Any]
    call: Callable[..., Any]
    signature: str
    formula: str
    inputs: tuple[str, ...]
    variadic: bool
    settings: dict[str, Any]
    residuals: tuple[str, ...]
    outputs: int | None
    numpy: str
    broadcasts: bool
    is_view: bool
    derived: Callable[..., Any] | None
    kink: str
    samples: Any
    reference: str
    rules: list[Rule | None]

    def __init__(self, **facts: Any) -> None:
        for name, value in facts.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"<op {self.name}: {self.signature}>"

    @property
    def node_name(self) -> str:
        """PyTorch's way of naming a node of this op: ``MulBackward0``."""
        return plain(self.name)

    @property
    def fills_zeros(self) -> bool:
        """Whether the rules want zeros (instead of None) as the gradient of an output that nothing used."""
        return True

    @property
    def differentiable(self) -> bool:
        """Whether any input has a rule."""
        return any(rule is not None for rule in self.rules)


class OpFunction(Protocol):
    """What ``@op`` returns: call it on tensors or arrays; ``.op`` describes it; ``.vjp`` registers a rule."""

    op: Op
    __name__: str

    def __call__(self, *args: Any, **settings: Any) -> Any: ...
    def vjp(self, *names: str, math: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...


def op(
    signature: str,
    *,
    formula: str = "",
    numpy: str = "",
    name: str | None = None,
    residuals: tuple[str, ...] = (),
    outputs: int | None = 1,
    broadcasts: bool = False,
    is_view: bool = False,
    derived: Callable[..., Any] | None = None,
    kink: str = "",
    samples: Any = None,
    reference: str = "",
    promotes: str | None = None,
) -> Callable[[Callable[..., Any]], OpFunction]:
    """Register a NumPy function as an op and return the function that dispatches to it.

    Args:
        signature: axes of inputs and outputs, e.g. ``"n k, k m -> n m"``; ``*s`` is any shape; ``?`` depends on values.
        formula: the value in mathematics, with ``{x}`` for inputs and settings.
        numpy: the value as NumPy source; without it ``backward_source`` prints the body as a helper function.
        name: the registered name, when the function's own will not do.
        residuals: names of further values that the body returns after its outputs, for the rules only.
        outputs: number of outputs, None when it depends on the arguments.
        broadcasts: inputs are broadcast against each other; the engine then sums gradients back.
        is_view: the output shares memory with the first input (or may).
        derived: a composite in chainrule's own ops that this op is a closed form of. Higher derivatives (where the
            rules need residuals) and the compiler use it; the tests assert that values and gradients are equal.
        kink: which value the derivative takes where it does not exist.
        samples: a function from a NumPy random generator to calls; the registry's tests run on them.
        reference: name of the PyTorch function with the same meaning, for parity tests.
        promotes: "common": inputs are brought to a common dtype first, by PyTorch's rules; "float": and to a
            floating point one.

    Raises:
        ValueError: when an op of that name exists.
    """

    def decorate(body: Callable[..., Any]) -> OpFunction:
        function: Any = body
        code = function.__code__
        inputs = code.co_varnames[: code.co_argcount]
        settings = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        defaults: dict[str, Any] = function.__kwdefaults__ or {}
        variadic = bool(code.co_flags & 0x04)  # CO_VARARGS
        if variadic:
            inputs = (code.co_varnames[code.co_argcount + code.co_kwonlyargcount],)
        described = Op(
            name=name or function.__name__,
            body=body,
            signature=signature,
            formula=formula,
            inputs=inputs,
            variadic=variadic,
            settings={s: defaults.get(s, REQUIRED) for s in settings},
            residuals=residuals,
            outputs=outputs,
            numpy=numpy,
            broadcasts=broadcasts,
            is_view=is_view,
            derived=derived,
            kink=kink,
            samples=samples,
            reference=reference,
            rules=[None] * len(inputs),
        )
        if described.name in registry:
            raise ValueError(
                f"op {described.name!r} is registered already, in {registry[described.name].body.__module__}"
            )
        registry[described.name] = described
        call: Any = dispatch.make_call(described, promotes)
        described.call = call
        call.op = described
        call.vjp = _vjp_decorator(described)
        call.__name__ = call.__qualname__ = described.name
        call.__doc__ = body.__doc__
        call.__module__ = body.__module__
        return call

    return decorate


def _vjp_decorator(described: Op) -> Callable[..., Any]:
    def vjp(*names: str, math: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the backward rule for one input, or one rule for several symmetrical inputs."""

        def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
            for name in names:
                described.rules[described.inputs.index(name)] = Rule(described, name, fn, math)
            return fn

        return decorate

    return vjp
