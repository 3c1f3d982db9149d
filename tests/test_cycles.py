"""What a backward pass leaves behind: nothing that only the garbage collector could free."""

from __future__ import annotations

import gc

import pytest

import chainrule as torch


def overwritten(w):
    z = w * 1
    z[1:] += 1
    z.mul_(z)
    return z.sum()


def viewed(w):
    z = w * 1
    v = z.view(2, 2)
    z.exp_()
    return v.sum()


def split(w):
    a, b = (w * 1).split(2)
    return (a * b).sum()


def hooked(w):
    z = w * 1
    z.retain_grad()
    z.register_hook(lambda g: g * 2)
    return z.sum()


@pytest.mark.parametrize("loss", [overwritten, viewed, split, hooked])
def test_no_reference_cycles(loss):
    def step():
        w = torch.ones(4).requires_grad_()
        loss(w).backward()

    step()  # what is made once and kept
    gc.collect()
    gc.disable()
    try:
        step()
        assert gc.collect() == 0
    finally:
        gc.enable()
