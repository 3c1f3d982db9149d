"""Compiled code is not kept between test runs."""

import pytest


@pytest.fixture(autouse=True)
def no_disk_cache(monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", "")
