"""Compiled code is not kept between test runs, and most tests compile without LLVM's optimisation (see ``quick``)."""

import pytest
from tests.compile.quick import quickly

OPTIMISED = {"test_accuracy", "test_cache", "test_docs", "test_kernels", "test_refused", "test_steps", "test_threads"}
"""What users get, optimisation and all: whole training steps, large kernels, errors, threads, the cache."""


@pytest.fixture(autouse=True)
def no_disk_cache(monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", "")


@pytest.fixture(autouse=True)
def quick_unless_listed(request):
    if request.module.__name__.rpartition(".")[2] in OPTIMISED:
        yield
    else:
        with quickly():
            yield
