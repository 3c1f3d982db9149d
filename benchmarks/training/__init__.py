"""Whole training steps against other libraries: ``python -m benchmarks.training``."""
