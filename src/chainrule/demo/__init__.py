"""A gallery of illnesses: each network is trained ill and cured, side by side, and ends in a picture and three
sentences."""

from .gallery import DEMOS, Demo, run_demo

__all__ = ["DEMOS", "Demo", "run_demo"]
