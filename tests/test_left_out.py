"""What PyTorch has and chainrule has not says so; the page that lists it is up to date."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import chainrule as torch
from chainrule.bridge import coverage
from chainrule.core import left_out


def test_the_page_is_what_the_code_says():
    page = Path(__file__).parents[1] / "docs" / "pytorch.md"
    assert page.read_text(encoding="utf-8") == coverage.page(), (
        "run: python -m chainrule.bridge.coverage > docs/pytorch.md"
    )


@pytest.mark.parametrize(
    ("owner", "name", "words"),
    [
        (torch, "stft", r"torch\.stft is a part of PyTorch that chainrule leaves out \(complex numbers and Fourier"),
        (torch, "jit", r"leaves out \(TorchScript and graph export\)"),
        (torch, "embedding_bag", r"leaves out\. Nearest: nn\.functional\.embedding_bag"),
        (torch, "softmaxx", r"no attribute 'softmaxx'\. Did you mean chainrule\.softmax\?"),
        (torch.nn, "Linaer", r"Did you mean chainrule\.nn\.Linear\?"),
        (torch.nn.functional, "grouped_mm", r"torch\.nn\.functional\.grouped_mm is a part of PyTorch"),
        (torch, "sspaddmm", r"leaves out \(sparse tensors\)"),
        (torch.linalg, "eig", r"complex numbers"),
    ],
)
def test_absent_names(owner, name, words):
    with pytest.raises(AttributeError, match=words):
        getattr(owner, name)


@pytest.mark.parametrize("owner", [torch.ones(2), torch.nn.Parameter(torch.ones(2)), torch.Tensor])
def test_methods_that_pytorch_has(owner):
    with pytest.raises(AttributeError) as raised:
        owner.to_sparse
    assert str(raised.value) == (
        "'Tensor' object has no attribute 'to_sparse': torch.Tensor.to_sparse is a part of PyTorch that chainrule "
        "leaves out (sparse tensors)"
    )
    assert not hasattr(owner, "stft")
    assert "stft" not in dir(torch.ones(2))


def test_the_list_of_left_out_methods_is_complete():
    assert sorted(left_out.TENSOR) == sorted(coverage.covered("torch.Tensor")[1])


def test_attributes_of_tensors_that_are_there_are_found_without_a_detour():
    """``__getattr__`` on the class would slow down every lookup."""
    assert not any("__getattr__" in vars(c) or "__getattribute__" in vars(c) for c in torch.Tensor.__mro__[:-1])


def shown_by_python(code):
    """The last line of the traceback, with what Python itself adds to it."""
    done = subprocess.run([sys.executable, "-c", f"import chainrule as torch\n{code}"], capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1]


def test_python_adds_no_guess_of_its_own():
    """It used to say "torch.hub is a part of PyTorch that chainrule leaves out. Did you mean: 'sub'?"."""
    assert shown_by_python("torch.hub").endswith("torch.hub is a part of PyTorch that chainrule leaves out")
    assert shown_by_python("torch.softmx").endswith("no attribute 'softmx'. Did you mean chainrule.softmax?")
    assert shown_by_python("torch.ones(2).to_sparse").endswith("leaves out (sparse tensors)")
    assert shown_by_python("torch.ones(2).permut").endswith("Did you mean: 'permute'?")
    assert shown_by_python("torch.to_device").endswith("module 'chainrule' has no attribute 'to_device'")


def test_importing_what_is_left_out_says_why():
    with pytest.raises(ModuleNotFoundError, match=r"'chainrule\.fft': torch\.fft is a part .* \(complex numbers and F"):
        importlib.import_module("chainrule.fft")
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'chainrule\.nonsense'$"):
        importlib.import_module("chainrule.nonsense")
    with (
        torch.as_torch(),
        pytest.raises(ModuleNotFoundError, match=r"'torch\.fft': torch\.fft .* \(complex numbers"),
    ):
        importlib.import_module("torch.fft")
    # Whoever asks the finder about a module that is there, as pytest does, gets no error.
    assert left_out._Finder.find_spec("chainrule.utils") is None
    assert left_out._Finder.find_spec("chainrule.nn.functional") is None


def test_answers_about_the_machine():
    assert not torch.cuda.is_available()
    assert torch.cuda.device_count() == 0
    assert not torch.backends.mps.is_available()
    assert torch.accelerator.current_accelerator() is None
    with pytest.raises(AssertionError, match="Torch not compiled with CUDA enabled"):
        torch.cuda.synchronize()


def test_in_place_functions_at_top_level():
    x = torch.tensor([-1.0, 2.0])
    assert torch.relu_(x) is x
    assert x.tolist() == [0.0, 2.0]


def test_names_of_the_program_do_not_load_with_it():
    rooms = "('nn', 'cuda', 'amp', 'distributions', 'toplevel', 'testing', 'backends')"
    loaded = f"[m for m in sys.modules if m.startswith('chainrule.') and m.split('.')[1] in {rooms}]"
    code = f"import sys, chainrule; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_compile_takes_a_model_and_pytorchs_options():
    model = torch.nn.Linear(2, 1)
    assert torch.compile(model, mode="reduce-overhead") is model
    double = torch.compile(lambda x: x * 2, backend="inductor", fullgraph=True)
    assert double(torch.ones(2)).tolist() == [2.0, 2.0]
