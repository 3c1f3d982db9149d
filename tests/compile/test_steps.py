"""Whole training steps: compiled and eager give the same losses, parameters, state and gradients, and can be mixed."""

import numpy as np
import pytest

import chainrule as torch
from chainrule.errors import ChainruleError, IndexOutOfRange

nn, F = torch.nn, torch.nn.functional
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6)).astype(np.float32)
Y = RNG.integers(0, 4, 24)

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
}
# No bias in front of a batch norm: its gradient is 0 but for rounding, which Adam would scale up to whole steps.
MODELS = {
    "mlp": lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)),
    "batchnorm": lambda: nn.Sequential(nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 4)),
    "layernorm": lambda: nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 4)),
    "silu": lambda: nn.Sequential(nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, 8), nn.ELU(), nn.Linear(8, 4)),
    "conv": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    ),
}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.lstm(x.reshape(-1, 3, 2))[0][:, -1])


MODELS["lstm"] = Recurrent
MODELS["cnn"] = lambda: nn.Sequential(
    nn.Linear(6, 64), nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 4),
)  # fmt: skip
NATIVE = {"mlp", "batchnorm", "layernorm", "silu", "lstm", "cnn"}


def make(model="mlp", optimizer="sgd", clip=None, seed=0):
    torch.manual_seed(seed)
    net = MODELS[model]()
    opt = OPTIMIZERS[optimizer](net.parameters())

    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        opt.step()
        return loss

    return net, opt, step


def batch():
    return torch.tensor(X), torch.tensor(Y)


def same(a, b, tolerance=2e-5):
    for (name, p), q in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_models_and_optimizers(model, optimizer):
    eager_net, _, eager = make(model, optimizer)
    net, _, step = make(model, optimizer)
    compiled = torch.compile(step)
    x, y = batch()
    for i in range(12):
        a, b = eager(x, y).item(), compiled(x, y).item()
        assert a == pytest.approx(b, rel=2e-5), i
    if model in NATIVE:
        assert not compiled.report().fallbacks
        compiled(x, y), eager(x, y)
    same(eager_net, net, 1e-4)
    for p, q in zip(eager_net.parameters(), net.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-3, atol=1e-5)


def test_clipping_and_a_schedule_stay_live():
    eager_net, eager_opt, eager = make("mlp", "momentum", clip=0.5)
    net, opt, step = make("mlp", "momentum", clip=0.5)
    compiled = torch.compile(step)
    schedules = [torch.optim.lr_scheduler.StepLR(o, 3, 0.5) for o in (eager_opt, opt)]
    x, y = batch()
    for _ in range(12):
        assert eager(x, y).item() == pytest.approx(compiled(x, y).item(), rel=1e-5)
        for s in schedules:
            s.step()
    same(eager_net, net)
    assert len(next(iter(compiled.variants.values()))) == 1, "a new learning rate must not compile again"


def test_eager_and_compiled_can_be_mixed():
    eager_net, _, eager = make("batchnorm", "adam")
    net, opt, step = make("batchnorm", "adam")
    compiled = torch.compile(step)
    x, y = batch()
    for i in range(12):
        a = eager(x, y).item()
        b = (compiled if i % 3 else step)(x, y).item()
        assert a == pytest.approx(b, rel=2e-5)
    same(eager_net, net)
    assert opt.state_dict()["state"][0]["step"].item() == 12


def test_other_shapes_compile_another_variant():
    eager_net, _, eager = make()
    net, _, step = make()
    compiled = torch.compile(step)
    x, y = batch()
    for n in (24, 8, 24, 5, 8):
        assert eager(x[:n], y[:n]).item() == pytest.approx(compiled(x[:n].clone(), y[:n].clone()).item(), rel=1e-5)
    assert len(compiled.variants) == 3
    same(eager_net, net)


def test_training_mode_is_guarded():
    torch.manual_seed(0)
    net = MODELS["batchnorm"]()
    x, _ = batch()

    @torch.compile
    def forward(x):
        with torch.no_grad():
            return net(x)

    for mode in (True, False, True, False):
        net.train(mode)
        fresh = {k: v.clone() for k, v in net.state_dict().items()}
        got = forward(x).numpy().copy()
        net.load_state_dict(fresh)
        with torch.no_grad():
            expected = net(x).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_replaced_parameters_are_noticed():
    net, _, _ = make()
    x, _ = batch()

    @torch.compile
    def forward(x):
        with torch.no_grad():
            return net(x)

    forward(x), forward(x)
    net[2].weight.data = net[2].weight.data * 2  # other memory, same kind
    np.testing.assert_allclose(forward(x).numpy(), net(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    net[2] = nn.Linear(16, 7)  # another module
    np.testing.assert_allclose(forward(x).numpy(), net(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_gradient_that_was_kept_does_not_change():
    net, _, step = make()
    compiled = torch.compile(step)
    x, y = batch()
    compiled(x, y)
    compiled(x, y)
    kept = net[0].weight.grad
    before = kept.numpy().copy()
    compiled(x, y)
    np.testing.assert_array_equal(kept.numpy(), before)
    assert net[0].weight.grad is not kept


def test_gradients_accumulate_without_zero_grad():
    nets = [make(seed=3)[0] for _ in range(2)]

    def accumulate(net):
        def step(x, y):
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        return step

    eager, compiled = accumulate(nets[0]), torch.compile(accumulate(nets[1]))
    x, y = batch()
    for _ in range(4):
        eager(x, y), compiled(x, y)
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_a_bad_class_is_an_error_and_changes_nothing():
    net, opt, step = make("mlp", "adam")
    compiled = torch.compile(step)
    x, y = batch()
    compiled(x, y), compiled(x, y)
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    bad = y.clone()
    bad[3] = 4
    with pytest.raises(IndexOutOfRange, match="Target 4 is out of bounds"):
        compiled(x, bad)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])
    assert opt.state_dict()["state"][0]["step"].item() == 2
    compiled(x, y)


def test_ignored_classes():
    eager_net, _, eager = make()
    net, _, step = make()
    compiled = torch.compile(step)
    x, y = batch()
    some = y.clone()
    some[::3] = -100
    for target in (y, some, y, some):
        assert eager(x, target).item() == pytest.approx(compiled(x, target).item(), rel=1e-5)
    same(eager_net, net)


def test_looking_at_a_value_is_an_error_with_the_line():
    @torch.compile
    def branch(x):
        if x.sum() > 0:  # the line in question
            return x * 2
        return x

    with pytest.raises(ChainruleError, match="the line in question"):
        branch(torch.ones(3))


def test_fallback_runs_eagerly_and_says_so_once():
    def branch(x):
        return x * 2 if x.sum().item() > 0 else x

    f = torch.compile(branch, fallback=True)
    with pytest.warns(UserWarning, match="runs eagerly"):
        assert f(torch.ones(2)).tolist() == [2.0, 2.0]
    assert f(-torch.ones(2)).tolist() == [-1.0, -1.0]


def test_an_exception_inside_leaves_everything_as_it_was():
    net, opt, _ = make("mlp", "adam")
    x, y = batch()

    @torch.compile
    def step(x, y):
        opt.zero_grad()
        F.cross_entropy(net(x), y).backward()
        opt.step()
        raise KeyError("mine")

    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    with pytest.raises(KeyError, match="mine"):
        step(x, y)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])
    assert all(p.grad is None for p in net.parameters())


def test_a_result_that_needs_its_graph_is_refused():
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(ChainruleError, match="still needs its graph"):
        torch.compile(lambda x: (x * w).sum())(torch.ones(3))


def test_arguments_of_other_kinds():
    @torch.compile
    def f(pair, scale, *, shift=0.0):
        return {"sum": pair[0] + pair[1] * scale + shift, "n": scale}

    a, b = torch.ones(3), torch.arange(3.0)
    for scale in (2, 3, 2):
        out = f((a, b), scale, shift=1.0)
        assert out["sum"].tolist() == [2.0, 2.0 + scale, 2.0 + 2 * scale]
        assert out["n"] == scale


def test_non_contiguous_and_shared_inputs():
    f = torch.compile(lambda a, b: a @ b)
    x = torch.tensor(X[:6])
    np.testing.assert_allclose(f(x, x).numpy(), X[:6] @ X[:6], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(f(x.T, x).numpy(), X[:6].T @ X[:6], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(f(x, x.T).numpy(), X[:6] @ X[:6].T, rtol=1e-5, atol=1e-5)


def test_source_is_a_program_that_gives_the_same():
    f = torch.compile(lambda x: torch.softmax(x * 2, 1).sum(0))
    x = torch.tensor(X)
    expected = f(x)
    scope = {}
    exec(f.source(), scope)  # noqa: S102 - the program that the step itself printed
    np.testing.assert_allclose(scope["step"](X), expected.numpy(), rtol=1e-5)


def test_report_names_kernels_and_fallbacks():
    f = torch.compile(lambda x: torch.polygamma(1, torch.tanh(x) + 2) * 2)
    f(torch.tensor(X))
    text = str(f.report())
    assert "polygamma has no native form" in text
    assert "tanh" in text
    assert "define" in f.llvm()


def test_threads_may_call_the_same_step():
    from concurrent.futures import ThreadPoolExecutor

    f = torch.compile(lambda x: torch.tanh(x @ x.T).sum(0))
    inputs = [torch.tensor(RNG.normal(size=(20, 20)).astype(np.float32)) for _ in range(16)]
    expected = [torch.tanh(x @ x.T).sum(0).numpy() for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            for got, e in zip(pool.map(f, inputs), expected, strict=True):
                np.testing.assert_allclose(got.numpy(), e, rtol=1e-4, atol=1e-5)


def test_dropout_draws_the_same_numbers_as_eager():
    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        nets.append(nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 4)))

    def trainer(net):
        opt = torch.optim.SGD(net.parameters(), lr=0.1)

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            return loss

        return step

    x, y = batch()
    runs = []
    for step in (trainer(nets[0]), torch.compile(trainer(nets[1]))):
        torch.manual_seed(7)
        runs.append([step(x, y).item() for _ in range(8)])
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-5)
    assert len(set(runs[1])) == 8
