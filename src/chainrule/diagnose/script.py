"""``chainrule diagnose script.py``: run somebody's training script for a few steps, then diagnose what it trains."""

from __future__ import annotations

import copy
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..core.op import registry
from ..core.state import state
from ..core.variable import Variable, wrap
from ..errors import ChainruleError, UsageError
from .finding import ordered
from .loop import error_finding
from .observe import Enough, Observer
from .report import Diagnosis
from .run import run
from .subject import Subject, to_array
from .tape import Spy, Tape

__all__ = ["diagnose_script"]


class _Capture:
    """What the first backward pass belongs to: network, input, target, and how the loss is computed from the output."""

    def __init__(self) -> None:
        self.spy = Spy({})
        self.subject: Subject | None = None
        self.model: Any = None
        self.optimizers: list[Any] = []
        self.why = ""
        self.tape: Tape | None = None
        """The script's own pass, when it cannot be repeated as loss(network(input))."""

    def taken(self, observer: Observer, loss: Any) -> None:
        """Called right before the first ``loss.backward()``."""
        state.recorder = None  # the rest runs at full speed
        if observer.last_forward is None:
            self.why = "no module of the script was called before its first backward"
            return
        model, args, kwargs, out = observer.last_forward
        if len(observer.roots) > 1 and any(not _within(r, model) for r in observer.roots):
            self._several(observer, loss)
            return
        optimizer = next(
            (o for o in reversed(self.optimizers) if _shares(o, model)),
            self.optimizers[-1] if self.optimizers else None,
        )
        memo: dict[int, Any] = {}
        twin = copy.deepcopy(model, memo)
        twin_optimizer = copy.deepcopy(optimizer, memo) if optimizer is not None else None
        target = _target(self.spy, out)
        loss_fn = self._replay(out, loss) if isinstance(loss, Variable) else None
        if loss_fn is None:
            self.why = "the loss cannot be traced back to the network's output"
            return
        batch = (*args, target if target is not None else wrap(np.zeros(())))
        self.subject = Subject(twin, loss_fn, batch, twin_optimizer)
        self.subject.kwargs = dict(kwargs)
        calls = self.spy.calls
        self.subject.original = calls[next((i for i, c in enumerate(calls) if c.module is not None), 0) :]

    def _several(self, observer: Observer, loss: Any) -> None:
        """Several networks (or parts of one, called one by one): the pass itself is read, as it stands."""
        from .tape import _backward, _namer

        holder = nn.Module()
        for i, root in enumerate(observer.roots):
            holder.add_module(f"part{i}", root)
        tape = Tape()
        tape.calls, tape.loss, tape.first_bad = self.spy.calls, loss, self.spy.first_bad
        tape.output = observer.last_forward[3] if observer.last_forward is not None else None
        names = {id(m): n for n, m in holder.named_modules()}
        parameters = {id(p._array): n for n, p in holder.named_parameters()}
        tape.used = {parameters[id(a)] for c in self.spy.calls for a in c.inputs if id(a) in parameters}
        if isinstance(loss, Variable) and loss._node is not None:
            self.spy.values[loss._node] = loss._array
            try:
                _backward(tape, loss, self.spy, _namer(names), parameters)
            except ChainruleError:  # the script's own backward will say it
                return
        args = next(
            (c.inputs[0] for c in self.spy.calls if c.inputs and isinstance(c.inputs[0], np.ndarray)), np.zeros((1, 1))
        )
        target = _target(self.spy, tape.output)
        self.subject = Subject(
            holder, lambda out, y: out, (wrap(args), target if target is not None else wrap(np.zeros(())))
        )
        self.tape = tape

    def _replay(self, out: Any, loss: Any) -> Any:
        """The script's own computation from the output to the loss, as a function of another output."""
        if not isinstance(out, Variable):
            return None
        depends = {id(out._array)}
        calls = []
        for call in self.spy.calls:
            if any(isinstance(a, np.ndarray) and id(a) in depends for a in call.inputs):
                made = [o for o in call.outs if isinstance(o, np.ndarray)]
                if any(id(o) == id(out._array) for o in made):
                    continue
                calls.append(call)
                depends.update(id(o) for o in made)
        if id(loss._array) not in depends or not calls:
            return None
        first, last = id(out._array), id(loss._array)

        def loss_fn(output: Any, target: Any = None) -> Any:
            env: dict[int, Any] = {first: output}
            for call in calls:
                args = [env.get(id(a), wrap(a) if isinstance(a, np.ndarray) else a) for a in call.inputs]
                got = registry[call.op].call(*args, **call.params)
                for made, new in zip(call.outs, got if isinstance(got, tuple) else (got,), strict=False):
                    env[id(made)] = new
            return env[last]

        return loss_fn


def _within(part: Any, whole: Any) -> bool:
    return any(m is part for m in whole.modules())


def _shares(optimizer: Any, model: Any) -> bool:
    own = {id(p) for p in model.parameters()}
    return any(id(p) in own for g in optimizer.param_groups for p in g["params"])


def _target(spy: Spy, out: Any) -> Any:
    from .tape import LOSSES

    array = to_array(out)
    for call in reversed(spy.calls):
        if call.op in LOSSES and len(call.inputs) > 1 and isinstance(call.inputs[1], np.ndarray):
            return wrap(call.inputs[1])
    for call in reversed(spy.calls):
        if call.op == "sub" and len(call.inputs) == 2 and any(a is array for a in call.inputs):
            other = call.inputs[1] if call.inputs[0] is array else call.inputs[0]
            if isinstance(other, np.ndarray):
                return wrap(other)
    return None


def diagnose_script(
    path: Any, args: tuple[str, ...] = (), *, steps: int = 12, cures: bool = True, progress: Any = None
) -> Diagnosis:
    """Run a script until it has made ``steps`` optimizer steps (or ends), and diagnose its network.

    Raises:
        UsageError: the file is missing, fails, or never trains.
    """
    import chainrule
    from chainrule import optim

    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path} is not a file")
    capture = _Capture()
    observer = Observer([chainrule], limit=steps, on_backward=capture.taken)
    init = optim.Optimizer.__init__

    def remember(self: Any, *a: Any, **k: Any) -> None:
        init(self, *a, **k)
        capture.optimizers.append(self)

    argv, sys.argv = sys.argv, [str(path), *args]
    sys.path.insert(0, str(path.parent.resolve()))
    previous = state.recorder
    failure: Exception | None = None
    run_path = _runner()
    try:
        optim.Optimizer.__init__ = remember  # type: ignore[method-assign]
        with observer:
            state.recorder = capture.spy
            try:
                run_path(str(path))
            except Enough:
                pass
            except SystemExit as leaving:
                if leaving.code not in (0, None) and not observer.backwards:
                    raise UsageError(f"{path} ended with exit code {leaving.code} before it trained") from None
            except Exception as error:
                failure = error
    finally:
        optim.Optimizer.__init__ = init  # type: ignore[method-assign]
        state.recorder = previous
        sys.argv = argv
        sys.path.remove(str(path.parent.resolve()))
    return _conclude(path, capture, observer, failure, cures, progress)


def _runner() -> Any:
    """How to run a file: with ``import torch`` served by chainrule where that is possible."""
    import chainrule

    serve = getattr(chainrule, "as_torch", None) if "as_torch" in dir(chainrule) else None
    if serve is None or "torch" in sys.modules:
        return lambda file: runpy.run_path(file, run_name="__main__")

    def served(file: str) -> Any:
        with serve():
            return runpy.run_path(file, run_name="__main__")

    return served


def _conclude(
    path: Path, capture: _Capture, observer: Observer, failure: Exception | None, cures: bool, progress: Any
) -> Diagnosis:
    observed = observer.findings()
    if failure is not None:
        known = error_finding(failure, str(failure))
        if known is not None:
            import traceback

            lines = [f for f in traceback.extract_tb(failure.__traceback__) if Path(f.filename).name == path.name]
            if lines and not known.place:
                known.place = f"{path.name}:{lines[-1].lineno}"
            observed.append(known)
        elif capture.subject is None:
            from .data_checks import check_labels

            first = str(failure).splitlines()[0] if str(failure) else ""
            found = []
            if observer.last_forward is not None:
                out = to_array(observer.last_forward[3])
                y = _label_like(failure)
                if isinstance(out, np.ndarray) and out.ndim == 2 and y is not None:
                    found = [f for f in check_labels(y, out.shape[1], len(out)) if f.code == "label-range"]
            if not found:
                raise UsageError(f"{path} fails before it trains: {type(failure).__name__}: {first}") from failure
            observed += found
    if capture.subject is None:
        if not observed and not observer.backwards:
            raise UsageError(f"{path} never trains: it called no backward()")
        if not observed and capture.why:
            raise UsageError(f"{path}: {capture.why}")
        return Diagnosis(
            ordered(observed), {"update ratios": [f"{observer.steps} steps watched"]}, None, None, 0.0, path.name, False
        )
    if (
        observer.steps == 0
        and observer.backwards >= 1
        and not any(f.code == "foreign-optimizer" for f in observed)
        and failure is None
    ):
        from .finding import Finding

        observed.append(
            Finding(
                "foreign-optimizer",
                "step() is never called",
                f"{observer.backwards} backward passes, no optimizer step",
                "gradients are computed and never used: the weights stay as they are.",
                "optimizer.step()   # after loss.backward()",
                place=observer.backward_place,
                confidence=0.95,
                stage="update ratios",
            )
        )
    try:
        diagnosis = run(capture.subject, cures=cures, observed=observed, progress=progress, tape=capture.tape)
    except UsageError:
        if not observed:
            raise
        return Diagnosis(
            ordered(observed), {"update ratios": [f"{observer.steps} steps watched"]}, None, None, 0.0, path.name, False
        )
    diagnosis.name = f"{path.name} ({diagnosis.name})"
    return diagnosis


def _label_like(error: Exception) -> Any:
    """The integer labels in the frames of an error about classes."""
    tb = error.__traceback__
    found = None
    while tb is not None:
        for value in tb.tb_frame.f_locals.values():
            a = getattr(value, "_array", None)
            if isinstance(a, np.ndarray) and a.dtype.kind in "iu" and a.ndim == 1 and a.size > 1:
                found = a
        tb = tb.tb_next
    return found
