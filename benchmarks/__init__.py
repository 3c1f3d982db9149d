"""Benchmarks: ratios against peers, measured in one run. ``python -m benchmarks.eager`` is the first table."""
