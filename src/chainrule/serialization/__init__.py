"""Saving and loading: state dicts and nested states as safetensors, PyTorch's files read without running their code."""

from .api import load, save
from .problems import FileFormatError, RefusedError

__all__ = ["FileFormatError", "RefusedError", "load", "save"]
