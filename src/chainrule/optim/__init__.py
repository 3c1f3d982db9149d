"""Optimizers and learning rate schedules, with PyTorch's names and exact trajectories."""

from . import lr_scheduler, optimizer
from .adam import Adam, AdamW, SparseAdam
from .adam_variants import ASGD, NAdam, RAdam
from .adaptive import Adadelta, Adagrad, Adamax, RMSprop, Rprop
from .lbfgs import LBFGS
from .matrices import Adafactor, Muon
from .optimizer import Optimizer
from .sgd import SGD

__all__ = [
    "Optimizer", "SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Adafactor",
    "Rprop", "ASGD", "LBFGS", "Muon", "SparseAdam", "lr_scheduler",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name == "swa_utils":  # it needs nn, which the optimizers do not
        import importlib

        return importlib.import_module(".swa_utils", __name__)
    from ..core import left_out

    raise left_out.missing("torch.optim", name, __all__)
