"""Is everything connected: parameters to the loss, parameters to the optimizer, modes to what is being done?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .finding import Finding
from .subject import Subject, to_array
from .tape import Call, Tape

__all__ = ["check_graph", "check_modes", "check_optimizer"]

_CUTTING = {
    "argmax": "argmax has no gradient",
    "round": "round is flat: its derivative is 0",
    "sign": "sign is flat: its derivative is 0",
    "floor": "floor is flat: its derivative is 0",
    "ceil": "ceil is flat: its derivative is 0",
}


def _cut_of(tape: Tape, parameters: dict[int, str]) -> tuple[Call | None, str]:
    """The last call whose input depends on a parameter while its output, which goes on to the loss, has no history.

    Dependence is followed through array identity, so it survives ``detach`` (which shares the array).
    """
    tainted: set[int] = set(parameters)
    found: tuple[Call | None, str] = (None, "")
    for call in tape.calls:
        touched = [i for i, a in enumerate(call.inputs) if isinstance(a, np.ndarray) and _key(a) in tainted]
        if not touched:
            continue
        for out in call.outs:
            if isinstance(out, np.ndarray):
                tainted.add(_key(out))
        if call.op in _CUTTING:
            found = (call, _CUTTING[call.op])
        elif call.op in ("detach", "data"):
            found = (call, "detach() takes the value out of the graph")
        elif not any(call.requires[i] for i in touched) and not found[0]:
            a = call.inputs[touched[0]]
            if _key(a) not in parameters:
                found = (
                    call,
                    (
                        "its input comes from weights, but was taken out of the graph (detach, .data, no_grad or a "
                        "copy through NumPy)"
                    ),
                )
            elif parameters.get(_key(a)) and not call.grad:
                found = (call, "it runs where gradients are off (no_grad), or on weights with requires_grad=False")
    return found


def _key(a: Any) -> int:
    return a.ctypes.data if a.size else id(a)


def check_graph(subject: Subject, tape: Tape, model: Any) -> list[Finding]:
    """Parameters that get no gradient: frozen, cut off, or never used."""
    named = list(model.named_parameters())
    frozen = [n for n, p in named if not p.requires_grad]
    trained = [n for n, p in named if p.requires_grad]
    lost = [n for n in trained if n not in tape.parameter_grads]
    found: list[Finding] = _unregistered(tape, len(named))
    if frozen:
        found += _frozen(subject, model, frozen, len(named))
    if not lost:
        return found
    arrays = {_key(to_array(p)): n for n, p in named}
    cut, why = _cut_of(tape, {k: n for k, n in arrays.items() if n in lost and n in tape.used})
    used = [n for n in lost if n in tape.used]
    if used:
        place = str(cut.place) if cut is not None and cut.place is not None else ""
        source = cut.place.source if cut is not None and cut.place is not None else ""
        op = (
            f"{cut.op} at {place}" + (f": {source}" if source else "")
            if cut is not None
            else "a value that leaves the graph"
        )
        found.append(
            Finding(
                "graph-cut",
                "the graph is cut: weights are used but get no gradient",
                f"{len(used)} of {len(trained)} parameters ({_few(used)}) have no path to the loss; the cut is "
                f"before {op}",
                (why or "something between them and the loss takes the value out of the graph")
                + ", so backward never reaches these weights.",
                "compute with the tensor itself: no .detach(), .data, .numpy(), no_grad or integers on the way "
                "to the loss",
                layer=used[-1].rpartition(".")[0],
                place=place,
                confidence=0.97,
                stage="gradient flow",
                numbers={"parameters": used},
            )
        )
    idle = [n for n in lost if n not in used]
    if idle and not (used and len(idle) == len(lost)):
        share = sum(1 for _ in idle) / max(1, len(trained))
        found.append(
            Finding(
                "unused-parameters",
                "parameters that the forward pass never uses",
                f"{len(idle)} of {len(trained)}: {_few(idle)}",
                "the layer is made in __init__ but forward does not call it (or only what it gives is dropped).",
                f"call self.{idle[0].rpartition('.')[0] or idle[0]}(…) in forward, or delete it",
                layer=idle[0].rpartition(".")[0],
                confidence=0.9 if share < 1 else 0.7,
                stage="gradient flow",
                numbers={"parameters": idle},
            )
        )
    return found


def _unregistered(tape: Tape, registered: int) -> list[Finding]:
    """Weights that the network multiplies with, but that are not among its parameters: layers in a plain list."""
    own = [s for s in tape.steps if s.kind == "weight" and len(s.parents) > 1 and _leaf(s.parents[1])]
    if not own:
        return []
    step = own[0]
    return [
        Finding(
            "not-in-optimizer",
            "weights that model.parameters() does not list",
            f"{len(own)} products with trainable tensors that are none of the {registered} registered parameters",
            "layers in a plain list or dict (or tensors that are no nn.Parameter) are not found by parameters(), "
            "so no optimizer gets them.",
            "self.layers = nn.ModuleList([...])   # instead of a plain list",
            layer=step.layer,
            place=str(step.place) if step.place else "",
            confidence=0.95,
            stage="update ratios",
        )
    ]


def _leaf(parent: Any) -> bool:
    hops = 0
    while not isinstance(parent, str) and parent is not None and parent.kind == "shape" and hops < 4:
        parent, hops = next((p for p in parent.parents if p is not None), None), hops + 1
    return parent == "leaf"


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f", … ({len(names) - 3} more)" if len(names) > 3 else "")


def _frozen(subject: Subject, model: Any, frozen: list[str], total: int) -> list[Finding]:
    values = {n: to_array(p) for n, p in model.named_parameters()}
    fresh = [n for n in frozen if _looks_initial(values[n])]
    given = subject.optimizer is not None and any(
        not p.requires_grad for g in subject.optimizer.param_groups for p in g["params"]
    )
    if not fresh and not given and len(frozen) < total:
        return []  # trained weights that are kept: fine-tuning
    what = "at their random initial values" if fresh else "and given to the optimizer" if given else "all of them"
    return [
        Finding(
            "frozen",
            "frozen parameters",
            f"{len(frozen)} of {total} parameters have requires_grad=False, {what}: {_few(frozen)}",
            "no gradient is computed for them, so they stay at what they are now.",
            "for p in model.parameters(): p.requires_grad_(True)   # or freeze after loading trained weights",
            layer=frozen[0].rpartition(".")[0],
            confidence=0.9 if fresh or len(frozen) == total else 0.7,
            stage="gradient flow",
            numbers={"parameters": frozen},
        )
    ]


def _looks_initial(w: Any) -> bool:
    """Whether a weight matrix still looks freshly drawn: uniform over an interval that 1/√fan-in (or Xavier,
    He) names, or normal."""
    if not isinstance(w, np.ndarray) or w.ndim < 2 or w.size < 16:
        return False
    x = w.astype(np.float64).ravel()
    top, deviation = float(np.abs(x).max()), float(x.std())
    if deviation == 0:
        return True
    if abs(x.mean()) > 4 * deviation / math.sqrt(x.size):
        return False
    flat = top / deviation
    fan_in, fan_out = int(np.prod(w.shape[1:])), w.shape[0]
    names = (
        1 / math.sqrt(3 * fan_in),
        math.sqrt(2 / (fan_in + fan_out)),
        math.sqrt(2 / fan_in),
        1 / math.sqrt(fan_in),
        1.0,
    )
    close = any(abs(deviation / s - 1) < 4 / math.sqrt(2 * x.size) + 0.01 for s in names)
    return close and (
        flat < math.sqrt(3) * 1.06 or abs(float(np.mean(x**4)) / deviation**4 - 3) < 6 / math.sqrt(x.size / 4)
    )


# --- optimizer --------------------------------------------------------------------------------------------------------


def check_optimizer(subject: Subject, tape: Tape | None, model: Any, optimizer: Any) -> list[Finding]:
    """Parameters that the optimizer does not have, decay that outweighs the gradient (``model``, ``optimizer``:
    copies)."""
    if optimizer is None:
        return []
    found: list[Finding] = []
    own = {id(p): n for n, p in model.named_parameters()}
    given = {id(p) for g in optimizer.param_groups for p in g["params"]}
    missing = [n for i, n in own.items() if i not in given and dict(model.named_parameters())[n].requires_grad]
    if not (set(own) & given):
        found.append(
            Finding(
                "foreign-optimizer",
                "the optimizer updates other tensors than this network's",
                f"none of its {len(given)} tensors is a parameter of the network",
                "the network was made (or copied, or re-initialised) after the optimizer, which still holds the "
                "old tensors.",
                "optimizer = torch.optim.SGD(model.parameters(), lr=…)   # after the network is final",
                confidence=0.97,
                stage="update ratios",
            )
        )
    elif missing:
        found.append(
            Finding(
                "not-in-optimizer",
                "parameters that the optimizer was not given",
                f"{len(missing)} of {len(own)}: {_few(missing)}",
                "step() updates only what it was given, so these weights stay at their initial values.",
                "torch.optim.SGD(model.parameters(), lr=…)   # all of them; keep layers in nn.ModuleList, not in "
                "a list",
                layer=missing[0].rpartition(".")[0],
                confidence=0.95,
                stage="update ratios",
                numbers={"parameters": missing},
            )
        )
    if tape is not None:
        found += _decay(tape, model, optimizer)
    return found


def _decay(tape: Tape, model: Any, optimizer: Any) -> list[Finding]:
    names = {id(p): n for n, p in model.named_parameters()}
    kind = type(optimizer).__name__
    decoupled = kind in ("AdamW", "NAdamW") or any(g.get("decoupled_weight_decay") for g in optimizer.param_groups)
    decay2 = grad2 = 0.0
    per_step = 0.0
    value = 0.0
    adaptive = kind in ("Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax")
    for g in optimizer.param_groups:
        wd, lr = float(g.get("weight_decay", 0) or 0), float(g["lr"])
        if not wd:
            continue
        value = max(value, wd)
        per_step = max(per_step, lr * wd if (decoupled or not adaptive) else 0.0)
        for p in g["params"]:
            name = names.get(id(p))
            if name is None or name not in tape.parameter_grads:
                continue
            w = to_array(p).astype(np.float64)
            decay2 += wd**2 * float((w**2).sum())
            grad2 += math.exp(2 * max(min(tape.parameter_grads[name], 300), -300))
    ratio = math.sqrt(decay2 / grad2) if grad2 > 0 else math.inf if decay2 else 0.0
    half = math.log(2) / per_step if per_step > 0 else math.inf
    dominates = (ratio > 3 and not decoupled) or half < 150
    if not value or not dominates:
        return []
    return [
        Finding(
            "weight-decay",
            "weight decay outweighs the gradient",
            (f"‖decay · w‖ is {ratio:.3g} times ‖gradient‖" if not decoupled else f"decay {value:g}")
            + (f"; alone it halves the weights every {half:.0f} steps" if half < 1e4 else ""),
            "the weights go to zero faster than the loss can build them up.",
            f"weight_decay={min(1e-2, value / max(ratio, 100)):.1g}",
            confidence=0.9,
            stage="update ratios",
            numbers={"ratio": ratio, "half_life": half, "weight_decay": value},
        )
    ]


# --- modes ------------------------------------------------------------------------------------------------------------


def _kinds(model: Any) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    norms, drops = [], []
    for name, m in model.named_modules():
        kind = type(m).__name__
        if "BatchNorm" in kind:
            norms.append((name, m))
        elif "Dropout" in kind:
            drops.append((name, m))
    return norms, drops


def check_modes(subject: Subject, n: int, repeat: bool = True) -> list[Finding]:
    """train() and eval(), batch statistics, dropout rates. ``repeat``: whether the network may be run again."""
    found: list[Finding] = []
    model = subject.model
    norms, drops = _kinds(model)
    asleep = [(name, m) for name, m in (*norms, *drops) if not m.training and not _all_frozen(m)]
    if asleep:
        what = ", ".join(sorted({type(m).__name__ for _, m in asleep}))
        found.append(
            Finding(
                "mode",
                "the network is in eval mode" if not model.training else "part of the network is in eval mode",
                f"{len(asleep)} layers ({what}) have training=False, the first is {asleep[0][0] or 'the network'}",
                "in eval mode batch norm uses its stored statistics (0 and 1 at the start) and dropout does "
                "nothing: the gradients are those of another network.",
                "model.train()   # before every epoch of training; model.eval() only around evaluation",
                layer=asleep[0][0],
                confidence=0.9,
                stage="update ratios",
                numbers={"layers": [k for k, _ in asleep]},
            )
        )
    active = [(name, m) for name, m in norms if m.training]
    if active and n == 1:
        found.append(_one_row(active[0][0]))
    if repeat:
        found += _noisy(subject)
    strong = [(name, m) for name, m in drops if getattr(m, "p", 0) >= 0.9]
    if strong:
        name, m = strong[0]
        found.append(
            Finding(
                "dropout-too-high",
                "dropout that drops nearly everything",
                f"{name or 'dropout'}: p = {m.p:g} leaves {1 - m.p:.0%} of the units",
                "p is the part that is dropped, not kept: hardly any signal and gradient gets through.",
                f"nn.Dropout({max(0.1, round(1 - m.p, 2)):g})",
                layer=name,
                confidence=0.9,
                stage="units",
                numbers={"p": float(m.p)},
            )
        )
    return found


def _noisy(subject: Subject) -> list[Finding]:
    """Whether the network is still random in eval mode: a dropout that does not know of the mode."""
    twin, _ = subject.copy()
    twin.eval()
    try:
        with subject.tb.no_grad():
            a, b = (to_array(twin(*subject.inputs, **subject.kwargs)) for _ in range(2))
    except Exception:  # the recorded pass will say what is wrong
        return []
    if (
        not isinstance(a, np.ndarray)
        or a.dtype.kind != "f"
        or a.shape != b.shape
        or np.array_equal(a, b, equal_nan=True)
    ):
        return []
    share = float((a != b).mean())
    return [
        Finding(
            "dropout-at-evaluation",
            "random in eval mode",
            f"two passes in eval mode differ in {share:.0%} of the outputs",
            "something draws random numbers whatever the mode, such as F.dropout(x, p), whose training=True is "
            "its default.",
            "F.dropout(x, p, training=self.training)   # or nn.Dropout(p)",
            confidence=0.85,
            stage="update ratios",
        )
    ]


def _one_row(layer: str) -> Finding:
    return Finding(
        "batchnorm-batch-1",
        "batch norm with a batch of 1",
        "the batch has 1 row",
        "the mean of one row is the row itself: (x − mean) is 0 whatever x is, and so is the gradient.",
        "DataLoader(…, batch_size=32, drop_last=True)   # or nn.LayerNorm / nn.GroupNorm, which need no batch",
        layer=layer,
        confidence=0.97,
        stage="data",
    )


def _all_frozen(m: Any) -> bool:
    own = list(m.parameters())
    return bool(own) and not any(p.requires_grad for p in own)
