"""``import torch`` served by chainrule: as a context manager and by ``chainrule run``."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap

import pytest
from packaging import version

import chainrule


def test_import_torch_gives_chainrule_inside_the_block_only():
    before = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "torch"}
    with chainrule.as_torch() as torch:
        import torch.nn as nn
        import torch.nn.functional as F
        from torch.optim.lr_scheduler import StepLR
        from torch.utils.data import DataLoader

        assert torch.Tensor is chainrule.Tensor
        assert nn is chainrule.nn
        assert F is chainrule.nn.functional
        assert StepLR is chainrule.optim.lr_scheduler.StepLR
        assert DataLoader is chainrule.utils.data.DataLoader
    assert {n: m for n, m in sys.modules.items() if n.split(".")[0] == "torch"} == before


def test_blocks_nest_and_leave_the_package_intact():
    with chainrule.as_torch(), chainrule.as_torch() as torch:
        import torch.nn

        assert torch.tensor(1.0).item() == 1.0
    assert chainrule.__spec__.name == "chainrule"
    assert chainrule.nn.__spec__.name == "chainrule.nn"


def test_the_version_is_that_of_the_api():
    """Programs branch on it; chainrule's own version stays chainrule's."""
    with chainrule.as_torch() as torch:
        assert torch.__version__ >= "1.10"
        assert torch.__version__ > (2, 0)
        assert not torch.__version__ < "2.9"
        assert torch.__version__ == "2.13.0+chainrule"
        assert tuple(int(n) for n in torch.__version__.split("+")[0].split(".")) == (2, 13, 0)
        assert version.parse(torch.__version__) >= version.parse("2.13")
        assert not torch.__version__.startswith("1.")
    assert chainrule.__version__ == "0.1.0"


def test_what_a_program_assigns_to_torch_stays_there():
    load = chainrule.load
    with chainrule.as_torch() as torch:
        torch.load = functools.partial(torch.load, weights_only=False)
        import torch as again

        assert again.load is torch.load is not load
        torch.load = load
    assert chainrule.load is load


def test_files_that_programs_import_names_from():
    with chainrule.as_torch() as torch:
        import torch.backends.cudnn as cudnn
        from torch.cuda.amp import GradScaler, autocast
        from torch.nn.modules.activation import MultiheadAttention
        from torch.nn.modules.batchnorm import _BatchNorm
        from torch.nn.modules.module import Module
        from torch.nn.modules.utils import _pair, _triple
        from torch.nn.utils.clip_grad import clip_grad_norm_
        from torch.nn.utils.convert_parameters import parameters_to_vector
        from torch.optim.adamw import AdamW
        from torch.utils.data._utils.collate import default_collate
        from torch.utils.data.dataloader import DataLoader
        from torch.utils.data.dataset import Dataset, random_split
        from torch.utils.data.sampler import SubsetRandomSampler
        from torch.utils.hooks import RemovableHandle

        assert cudnn is torch.backends.cudnn
        assert (GradScaler, autocast) == (torch.cuda.amp.GradScaler, torch.cuda.amp.autocast)
        assert clip_grad_norm_ is torch.nn.utils.clip_grad_norm_
        assert parameters_to_vector is torch.nn.utils.parameters_to_vector
        assert (AdamW, default_collate) == (torch.optim.AdamW, torch.utils.data.default_collate)
        assert isinstance(torch.ones(1, requires_grad=True).register_hook(print), RemovableHandle)
        assert Module is torch.nn.Module is torch.nn.modules.Module
        assert MultiheadAttention is torch.nn.MultiheadAttention
        assert isinstance(torch.nn.BatchNorm2d(1), _BatchNorm)
        assert (_pair(3), _pair([1, 2]), _triple(0)) == ((3, 3), (1, 2), (0, 0, 0))
        assert (DataLoader, Dataset) == (torch.utils.data.DataLoader, torch.utils.data.Dataset)
        assert (random_split, SubsetRandomSampler) == (
            torch.utils.data.random_split,
            torch.utils.data.SubsetRandomSampler,
        )
        with pytest.raises(ImportError, match="NoSuchLayer"):
            from torch.nn.modules.linear import NoSuchLayer  # noqa: F401 - that it cannot be imported is tested


def test_names_for_annotations_and_base_classes():
    with chainrule.as_torch() as torch:
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.nn.common_types import _size_2_t  # noqa: F401 - that it can be imported is tested
        from torch.nn.modules.batchnorm import _NormBase
        from torch.nn.modules.loss import _Loss, _WeightedLoss
        from torch.nn.modules.pooling import _MaxPoolNd
        from torch.storage import UntypedStorage
        from torch.types import Device, Number  # noqa: F401 - that it can be imported is tested

        class Mine(_WeightedLoss):
            def forward(self, x, y):
                return ((x - y) ** 2 * self.weight).mean()

        mine = Mine(torch.tensor(2.0), reduction="sum")
        assert mine(torch.ones(2), torch.zeros(2)).item() == 2.0
        assert (mine.reduction, [*mine.state_dict()]) == ("sum", ["weight"])
        assert isinstance(torch.nn.MSELoss(), _Loss)
        assert (torch.nn.MSELoss().reduction, torch.nn.MSELoss(reduction="sum").reduction) == ("mean", "sum")
        assert isinstance(torch.nn.BatchNorm1d(2), _NormBase)
        assert isinstance(torch.nn.MaxPool2d(2), _MaxPoolNd)
        assert UntypedStorage is torch.UntypedStorage
        q = torch.randn(1, 1, 2, 4)
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            inside = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        assert torch.equal(inside, torch.nn.functional.scaled_dot_product_attention(q, q, q))
        with pytest.raises(AssertionError, match="Backend must be an instance of SDPBackend"), sdpa_kernel([]):
            pass


def test_multiprocessing_is_imported_and_refused_on_use():
    with chainrule.as_torch():
        import torch.multiprocessing as mp

        mp.set_sharing_strategy("file_system")
        assert mp.cpu_count() >= 1

        class Worker(mp.Process):
            pass

        for start in (lambda: mp.spawn(print, nprocs=2), lambda: mp.Pool(2), lambda: Worker(target=print)):
            with pytest.raises(NotImplementedError, match="tensors are not shared between processes here"):
                start()
        with pytest.raises(AttributeError, match="nonsense"):
            mp.nonsense


@pytest.mark.parametrize(
    "use",
    [
        lambda t: t.ones(2).cuda(),
        lambda t: t.ones(2, device="cuda"),
        lambda t: t.ones(2).to("cuda:0"),
        lambda t: t.nn.Linear(1, 1).cuda(),
        lambda t: t.nn.Linear(1, 1).to(t.device("cuda")),
    ],
)
def test_a_device_that_is_not_there_says_what_to_write(use):
    with pytest.raises(AssertionError) as raised:
        use(chainrule)
    assert str(raised.value) == (
        "Torch not compiled with CUDA enabled\n"
        "  chainrule computes on the CPU, the only device it has\n"
        "  Leave .cuda() and device= out, or write device = 'cuda' if torch.cuda.is_available() else 'cpu'."
    )


def test_the_source_of_a_compiled_model_says_what_to_compile():
    model = chainrule.compile(chainrule.nn.Linear(2, 2))
    with pytest.raises(AttributeError, match=r"compile\(\) gives a model back as it is.*\n.*step\.source\(\)"):
        model.source()
    step = chainrule.compile(lambda x: model(x).detach())
    step(chainrule.ones(3, 2))
    assert "def " in str(step.source())


def test_what_is_left_out_says_so():
    with (
        chainrule.as_torch(),
        pytest.raises(ModuleNotFoundError, match=r"torch\.onnx.*part of PyTorch that chainrule leaves out"),
    ):
        import torch.onnx  # noqa: F401 - that it cannot be imported is tested


SCRIPT = """
    import sys
    import torch
    import torch.nn as nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 64).unsqueeze(1)
    data = DataLoader(TensorDataset(x, x ** 2), batch_size=16, shuffle=True)
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for epoch in range(60):
        for a, b in data:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(a), b)
            loss.backward()
            optimizer.step()
    print(torch.__version__, sys.argv[1], loss.item() < 0.05, __name__)
"""


def run(tmp_path, text, *arguments):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(text))
    command = [sys.executable, "-m", "chainrule", "run", str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_an_unmodified_script(tmp_path):
    done = run(tmp_path, SCRIPT, "--option")
    assert done.stderr == ""
    assert done.stdout.split() == ["2.13.0+chainrule", "--option", "True", "__main__"]


def test_a_script_that_raises_shows_its_own_traceback(tmp_path):
    done = run(tmp_path, "import torch\ntorch.ones(2) + torch.ones(3)\n")
    assert done.returncode == 1
    assert "The size of tensor a (2) must match the size of tensor b (3)" in done.stderr
    assert "runpy" not in done.stderr


def test_a_missing_script():
    done = subprocess.run(
        [sys.executable, "-m", "chainrule", "run", "nowhere.py"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (2, "chainrule: nowhere.py: cannot be read (No such file or directory)\n")
