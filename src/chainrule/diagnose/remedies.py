"""Remedies: changes of a network, of its input, its loss or its optimizer, and which of them fit which finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .finding import Finding
from .probes import usual
from .subject import Subject, to_array

__all__ = ["Remedy", "remedies", "same_optimizer"]


@dataclass
class Remedy:
    """``change(subject, model)`` alters a copy of the network; the rest alters how it is trained."""

    name: str
    change: Callable[[Subject, Any], bool] | None = None
    inputs: Any = None
    target: Any = None
    loss_fn: Any = None
    lr: float = 1.0
    optimizer: Callable[[Subject, Any], Any] | None = None
    clip: float | None = None
    decay: float | None = None
    note: str = ""
    comparable: bool = True


# --- changes of a network --------------------------------------------------------------------------------------------


def _matrices(model: Any) -> list[tuple[str, Any]]:
    return [
        (n, m)
        for n, m in model.named_modules()
        if getattr(m, "weight", None) is not None
        and len(m.weight.shape) >= 2
        and type(m).__name__ in ("Linear", "Conv1d", "Conv2d", "Conv3d")
    ]


_ACTS = ("Sigmoid", "Tanh", "ReLU", "GELU", "LeakyReLU", "ELU", "SiLU", "Hardtanh", "Softsign", "SELU", "Hardsigmoid")


def _activation_modules(model: Any, kinds: tuple[str, ...] = _ACTS) -> list[tuple[str, Any]]:
    return [(n, m) for n, m in model.named_modules() if type(m).__name__ in kinds and n]


def _replace(model: Any, name: str, new: Any) -> None:
    path, _, last = name.rpartition(".")
    owner = model.get_submodule(path)
    if last in owner._modules:
        owner._modules[last] = new
    else:
        setattr(owner, last, new)


def _last_is_output(model: Any, name: str) -> bool:
    """Whether a module is the last of a Sequential that is the model: its activation belongs to the loss."""
    mods = [n for n, m in model.named_modules() if n and not list(m.children())]
    return bool(mods) and mods[-1] == name


def he(subject: Subject, model: Any) -> bool:
    """He's initialisation (Xavier's for tanh and sigmoid), biases 0; the last layer by Xavier."""
    found = _matrices(model)
    squash = bool(_activation_modules(model, ("Tanh", "Sigmoid", "Softsign", "Hardtanh")))
    init = subject.tb.nn.init
    for i, (_, m) in enumerate(found):
        if not m.weight.requires_grad:
            continue
        if i + 1 == len(found) or squash:
            init.xavier_normal_(m.weight)
        else:
            init.kaiming_normal_(m.weight, nonlinearity="relu")
        if getattr(m, "bias", None) is not None:
            init.zeros_(m.bias)
    for m in model.modules():
        name = type(m).__name__
        if name in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"):
            for k, p in m.named_parameters():
                if len(p.shape) >= 2:
                    init.orthogonal_(p) if "hh" in k else init.xavier_uniform_(p)
                else:
                    init.zeros_(p)
        elif "Norm" in name and getattr(m, "weight", None) is not None:
            init.ones_(m.weight)
    return bool(found)


def swap_activation(kind: str) -> Callable[[Subject, Any], bool]:
    """Replace squashing activations by ``kind``, with He's initialisation."""

    def change(subject: Subject, model: Any) -> bool:
        old = [
            (n, m) for n, m in _activation_modules(model) if type(m).__name__ != kind and not _last_is_output(model, n)
        ]
        for n, _ in old:
            _replace(model, n, getattr(subject.tb.nn, kind)())
        return bool(old) and he(subject, model)

    return change


def _sequentials(model: Any) -> list[tuple[str, Any]]:
    return [
        (n, m) for n, m in model.named_modules() if type(m).__name__ == "Sequential" and len(list(m.children())) >= 2
    ]


def _rebuild(subject: Subject, model: Any, edit: Callable[[list[Any]], list[Any] | None]) -> bool:
    """Edit the list of layers of every Sequential, in place."""
    done = False
    for _, seq in _sequentials(model):
        layers = list(seq.children())
        new = edit(layers)
        if new is None:
            continue
        seq._modules.clear()
        for i, m in enumerate(new):
            seq._modules[str(i)] = m
        done = True
    return done


def norm(kind: str) -> Callable[[Subject, Any], bool]:
    """A batch or layer norm after every Linear (batch norm after convolutions) that an activation follows."""

    def change(subject: Subject, model: Any) -> bool:
        nn = subject.tb.nn
        like = next(iter(model.parameters()))

        def edit(layers: list[Any]) -> list[Any] | None:
            out: list[Any] = []
            for i, m in enumerate(layers):
                out.append(m)
                if i + 1 < len(layers) and type(layers[i + 1]).__name__ in _ACTS:
                    if type(m).__name__ == "Linear":
                        out.append((nn.BatchNorm1d if kind == "batch" else nn.LayerNorm)(m.out_features).to(like.dtype))
                    elif type(m).__name__ == "Conv2d":
                        out.append(
                            (nn.BatchNorm2d(m.out_channels) if kind == "batch" else nn.GroupNorm(1, m.out_channels)).to(
                                like.dtype
                            )
                        )
            return out if len(out) > len(layers) else None

        return _rebuild(subject, model, edit)

    return change


def residual(subject: Subject, model: Any) -> bool:
    """x + f(x) around every Linear–activation pair of equal width, the branches scaled by 1/√depth."""
    nn = subject.tb.nn

    class Residual(nn.Module):
        def __init__(self, *layers: Any) -> None:
            super().__init__()
            self.branch = nn.Sequential(*layers)

        def forward(self, x: Any) -> Any:
            return x + self.branch(x)

    def edit(layers: list[Any]) -> list[Any] | None:
        out: list[Any] = []
        i, count = 0, 0
        while i < len(layers):
            m = layers[i]
            pair = i + 1 < len(layers) and type(layers[i + 1]).__name__ in _ACTS
            if type(m).__name__ == "Linear" and pair and m.in_features == m.out_features:
                out.append(Residual(m, layers[i + 1]))
                i, count = i + 2, count + 1
            else:
                out.append(m)
                i += 1
        return out if count >= 2 else None

    return _rebuild(subject, model, edit)


def leaky(subject: Subject, model: Any) -> bool:
    """LeakyReLU for ReLU."""
    old = _activation_modules(model, ("ReLU",))
    for n, _ in old:
        _replace(model, n, subject.tb.nn.LeakyReLU(0.1))
    return bool(old)


def _drop_last(kinds: tuple[str, ...]) -> Callable[[Subject, Any], bool]:
    def change(subject: Subject, model: Any) -> bool:
        names = [n for n, m in model.named_modules() if type(m).__name__ in kinds and n]
        if not names or not _last_is_output(model, names[-1]):
            return False
        _replace(model, names[-1], subject.tb.nn.Identity())
        return True

    return change


def thaw(subject: Subject, model: Any) -> bool:
    """Every parameter trained."""
    for p in model.parameters():
        p.requires_grad_(True)
    return True


def lower_dropout(subject: Subject, model: Any) -> bool:
    """Dropout of 0.1."""
    found = False
    for m in model.modules():
        if "Dropout" in type(m).__name__ and m.p >= 0.9:
            m.p, found = 0.1, True
    return found


# --- which remedies for which finding --------------------------------------------------------------------------------


def remedies(subject: Subject, f: Finding) -> list[Remedy]:
    """Candidates for a finding, most likely first."""
    net = [
        Remedy("ReLU + He initialisation", swap_activation("ReLU")),
        Remedy("He/Xavier initialisation", he),
        Remedy("batch norm", norm("batch")),
        Remedy("layer norm", norm("layer")),
        Remedy("residual connections", residual),
        Remedy("GELU + He initialisation", swap_activation("GELU")),
    ]
    act = f.numbers.get("activation")
    code = f.code
    if code == "vanishing-gradient":
        return [r for r in net if not (act == "relu" and r.name.startswith("ReLU"))]
    if code == "exploding-gradient":
        return [net[1], *_clip_at(subject), net[2], net[3], Remedy("learning rate ÷ 100", lr=0.01)]
    if code == "saturation":
        return [net[1], net[0], net[2], net[3]]
    if code in ("zero-init", "symmetric-init", "init-scale", "initial-loss"):
        return [net[1], net[3]] if code != "init-scale" else [net[1], net[3], net[2]]
    if code == "dead-relu":
        return [
            net[1],
            Remedy("LeakyReLU", leaky),
            Remedy("LeakyReLU + He initialisation", lambda s, m: leaky(s, m) and he(s, m)),
            net[2],
        ]
    if code == "input-scale":
        return [*_standardised(subject), net[2], net[3]]
    if code == "double-softmax":
        return [
            Remedy("without the extra softmax", _drop_last(("Softmax", "Sigmoid", "LogSoftmax")), comparable=True),
            *(
                [Remedy("log of the probabilities (as without the extra softmax)", loss_fn=_log_first(subject))]
                if subject.loss_fn is not None
                else []
            ),
        ]
    if code == "activation-before-loss":
        return [Remedy("without the last activation", _drop_last(("ReLU", "Tanh", "Sigmoid")))]
    if code == "missing-softmax":
        return [
            Remedy(
                "cross_entropy / with logits", loss_fn=_right_loss(subject), comparable=False, note=" (another loss)"
            )
        ]
    if code == "silent-broadcast":
        return [Remedy("equal shapes", loss_fn=_same_shape(subject))]
    if code == "wrong-loss":
        return [
            Remedy(
                "cross-entropy instead of squared error",
                _drop_last(("Softmax", "Sigmoid")),
                loss_fn=_classes_loss(subject),
                comparable=False,
                note=" (another loss)",
            )
        ]
    if code == "softmax-wrong-axis":
        return [Remedy("without that softmax", _drop_last(("Softmax", "LogSoftmax")))]
    if code == "constant-output":
        return [Remedy("sigmoid instead of softmax", _sigmoid_last)]
    if code == "target-range":
        return [
            *_unit_targets(subject),
            Remedy("without the last activation", _drop_last(("ReLU", "Tanh", "Sigmoid", "Softmax"))),
        ]
    if code == "frozen":
        return [Remedy("all parameters trained", thaw, optimizer=lambda s, m: same_optimizer(s, m))]
    if code in ("not-in-optimizer", "foreign-optimizer"):
        return [Remedy("all parameters given to the optimizer", optimizer=lambda s, m: same_optimizer(s, m))]
    if code == "lr-too-large":
        return [Remedy(f"learning rate × {k:g}", lr=k) for k in _around(f, (0.1, 0.01, 0.001))]
    if code == "lr-too-small":
        return [Remedy(f"learning rate × {k:g}", lr=k) for k in _around(f, (10.0, 100.0, 1000.0, 1e4))]
    if code == "weight-decay":
        return [
            Remedy("weight decay 0", decay=0.0),
            Remedy("weight decay ÷ 1000", decay=float(f.numbers.get("weight_decay", 1)) / 1000),
        ]
    if code == "clipping":
        return [Remedy("clipping at 3 × the typical norm", clip=3 * float(f.numbers.get("typical", 1)))]
    if code == "stale-gradients":
        return [Remedy("zero_grad before every backward")]
    if code == "dropout-too-high":
        return [Remedy("dropout 0.1", lower_dropout)]
    if code == "mode":
        return [Remedy("model.train()")]
    if code == "label-range":
        return _shifted(subject, f)
    return []


def _around(f: Finding, factors: tuple[float, ...]) -> list[float]:
    lr, better = float(f.numbers.get("lr", 0)), float(f.numbers.get("better", 0))
    own = [better / lr] if lr > 0 and better > 0 and better != lr else []
    return [*own, *(k for k in factors if not own or abs(k / own[0] - 1) > 1e-6)]


def _clip_at(subject: Subject) -> list[Remedy]:
    return [Remedy("gradient clipping at norm 1", clip=1.0)]


def same_optimizer(subject: Subject, model: Any) -> Any:
    """The subject's kind of optimizer with its settings, over all parameters."""
    given = subject.optimizer
    if given is None:
        return usual(subject, model)
    settings = {
        k: v
        for k, v in given.param_groups[0].items()
        if k in ("lr", "momentum", "weight_decay", "betas", "eps", "alpha", "nesterov")
    }
    return type(given)([p for p in model.parameters() if p.requires_grad], **settings)


def _standardised(subject: Subject) -> list[Remedy]:
    new = []
    for x in subject.inputs:
        a = to_array(x)
        if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.ndim >= 2:
            axes = (0,) if a.ndim == 2 else tuple(i for i in range(a.ndim) if i != 1) if a.ndim == 4 else (0, 1)
            z = (a - a.mean(axis=axes, keepdims=True)) / np.maximum(a.std(axis=axes, keepdims=True), 1e-6)
            constant = a.std(axis=axes, keepdims=True) < 1e-6
            new.append(subject.tb.from_numpy(np.ascontiguousarray(np.where(constant, 0, z).astype(a.dtype))))
        else:
            new.append(x)
    return [Remedy("standardised inputs", inputs=tuple(new))] if new else []


def _log_first(subject: Subject) -> Any:
    loss_fn: Any = subject.loss_fn
    return lambda out, y: loss_fn((out.clamp(min=1e-12)).log(), y)


def _right_loss(subject: Subject) -> Any:
    F = subject.tb.nn.functional
    y = to_array(subject.target)
    return F.cross_entropy if isinstance(y, np.ndarray) and y.dtype.kind in "iu" else F.binary_cross_entropy_with_logits


def _same_shape(subject: Subject) -> Any:
    loss_fn: Any = subject.loss_fn
    return lambda out, y: loss_fn(out.reshape(-1), y.reshape(-1))


def _classes_loss(subject: Subject) -> Any:
    F = subject.tb.nn.functional

    def loss(out: Any, y: Any) -> Any:
        if len(y.shape) == 2 and y.shape[1] > 1:
            return F.cross_entropy(out, y.argmax(1))
        if len(out.shape) == 2 and out.shape[1] > 1:
            return F.cross_entropy(out, y.long())
        return F.binary_cross_entropy_with_logits(out.reshape(-1), y.reshape(-1).to(out.dtype))

    return loss


def _unit_targets(subject: Subject) -> list[Remedy]:
    y = to_array(subject.target)
    if not isinstance(y, np.ndarray) or y.dtype.kind != "f" or y.size < 2 or y.max() == y.min():
        return []
    unit = np.ascontiguousarray((y - y.min()) / (y.max() - y.min())).astype(y.dtype)
    return [
        Remedy(
            "targets scaled to 0 … 1", target=subject.tb.from_numpy(unit), comparable=False, note=" (of other targets)"
        )
    ]


def _sigmoid_last(subject: Subject, model: Any) -> bool:
    names = [n for n, m in model.named_modules() if type(m).__name__ == "Softmax" and n]
    if not names:
        return False
    _replace(model, names[-1], subject.tb.nn.Sigmoid())
    return True


def _shifted(subject: Subject, f: Finding) -> list[Remedy]:
    low, high, c = (int(f.numbers.get(k, 0)) for k in ("low", "high", "classes"))
    if subject.target is None or high - low >= c or c == 0:
        return []
    return [Remedy(f"labels − {low}", target=subject.target - low, note=" (before: an error)")]
