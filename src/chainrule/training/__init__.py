"""Training a network on a table: what ``chainrule train`` and ``chainrule predict`` do, as a library.

``config`` says what to train, ``prepare`` turns a table into tensors, ``model`` builds the network, ``runfolder`` keeps
what must survive, ``loop`` trains, ``nonfinite`` finds where a NaN was born.
"""

from .config import TrainConfig
from .loop import Trainer, fit
from .prepare import Prepared, prepare

__all__ = ["Prepared", "TrainConfig", "Trainer", "fit", "prepare"]
