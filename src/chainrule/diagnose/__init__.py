"""Why a network does not train, and which cure works, measured.

    print(chainrule.diagnose(model, loss_fn, (x, y)))
    print(chainrule.diagnose(model, loss_fn, (x, y), optimizer=optimizer))
    watch = chainrule.watch(model, optimizer)          # in a loop of one's own: watch.step(loss)

The module itself is callable.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

from .budget import Budget, LayerFlow
from .cures import Cure
from .finding import Finding
from .report import Diagnosis
from .watch import Watch, watch

__all__ = ["Budget", "Cure", "Diagnosis", "Finding", "LayerFlow", "Watch", "diagnose", "spectrum", "watch"]


def diagnose(
    model: Any,
    loss_fn: Any,
    batch: Any,
    *,
    optimizer: Any = None,
    step: Callable[[], Any] | None = None,
    data: Any = None,
    clip_grad_norm: float | None = None,
    cures: bool = True,
    progress: bool | None = None,
    seconds: float = 18.0,
) -> Diagnosis:
    """Look at a network on one batch as an expert would, say what keeps it from learning, and measure the cures.

    Args:
        model: an ``nn.Module`` of chainrule or of PyTorch.
        loss_fn: ``loss_fn(output, target)`` giving one number; None if the model returns the loss.
        batch: ``(input, target)``, ``(input₁, …, target)`` or a dict; tensors or arrays.
        optimizer: looked at as well when given: learning rate, weight decay, missing parameters.
        step: one step of your own training loop, as a function without arguments: it is watched for a few steps
            (missing zero_grad, clipping, modes) and everything is put back afterwards. Needs ``optimizer``.
        data: ``(inputs, targets)``, more rows than the batch, to judge whether labels belong to inputs.
        clip_grad_norm: the limit that you clip at.
        cures: try remedies on copies. Without, it takes well under two seconds for small networks.
        progress: show a bar; by default on a terminal, when it takes more than a second.
        seconds: the time that cures may take.

    Returns:
        A ``Diagnosis``: ``.findings``, ``.healthy``, ``.budget``, ``.checklist``; print it.

    Raises:
        UsageError: no parameters, a batch that does not fit, a loss that is not one number.

    The network, its gradients, buffers and modes, the optimizer's state and the random state are as before afterwards.

    >>> import chainrule as torch
    >>> _ = torch.manual_seed(0)
    >>> layers = [m for _ in range(12) for m in (torch.nn.Linear(16, 16), torch.nn.Sigmoid())]
    >>> net = torch.nn.Sequential(*layers, torch.nn.Linear(16, 3))
    >>> batch = torch.randn(32, 16), torch.arange(32) % 3
    >>> found = diagnose(net, torch.nn.functional.cross_entropy, batch, cures=False)
    >>> found.findings[0].code
    'vanishing-gradient'
    """
    from .bar import Bar
    from .run import run
    from .subject import Subject

    subject = Subject(model, loss_fn, batch, optimizer)
    observed = None
    if step is not None:
        from .observe import observe_steps

        observed = observe_steps(subject, step)
    with Bar(progress) as bar:
        return run(
            subject, cures=cures, observed=observed, data=data, clip=clip_grad_norm, progress=bar.tell, seconds=seconds
        )


def spectrum(model: Any, loss_fn: Any, batch: Any, parameter: str | None = None) -> Any:
    """How much of a gradient crossed k residual branches; see ``paths.spectrum``."""
    from .paths import spectrum as measure

    return measure(model, loss_fn, batch, parameter)


class _CallableModule(types.ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Diagnosis:
        return diagnose(*args, **options)


_CallableModule.__call__.__doc__ = diagnose.__doc__
sys.modules[__name__].__class__ = _CallableModule
