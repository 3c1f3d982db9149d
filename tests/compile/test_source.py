"""The printed program is the program that runs: executed, it gives the results and the updates of the native step."""

import numpy as np
import pytest
from tests.compile.programs import record
from tests.compile.test_registry import RANDOM, samples

import chainrule as torch
from chainrule.compile import link, passes
from chainrule.compile.show import names_of, source
from chainrule.core.op import registry

nn, F = torch.nn, torch.nn.functional


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, i):
        return self.head(self.layer(self.embed(i)).mean(1))


WORLDS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), lambda: torch.randn(5, 6)),
    "cnn": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                              nn.Linear(27, 3)),
        lambda: torch.randn(5, 1, 8, 8),
    ),
    "transformer": (Attention, lambda: torch.randint(0, 7, (5, 4))),
}  # fmt: skip


# Not Adam where gradients are 0 but for rounding (a bias in front of a batch norm, the keys' bias of attention): it
# scales them up to whole steps.
@pytest.mark.parametrize(
    ("name", "optimizer"), [("mlp", "Adam"), ("mlp", "SGD"), ("cnn", "SGD"), ("transformer", "SGD")]
)
def test_a_printed_training_step_trains(name, optimizer):
    torch.manual_seed(0)
    model, batch = WORLDS[name]
    net, x, y = model(), batch(), torch.randint(0, 3, (5,))
    opt = getattr(torch.optim, optimizer)(net.parameters(), lr=0.01)

    @torch.compile
    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    step(x, y), step(x, y)
    text = step.source()
    memory = {k: a.copy() for k, a in text.memory.items()}  # as it is before the third step
    loss = step(x, y).item()
    # Numbers that are read afresh (learning rate, bias correction) are those of the third step.
    memory.update({k: a.copy() for k, a in text.memory.items() if not a.shape and k.startswith("number")})
    scope = dict(memory)
    exec(text, scope)  # noqa: S102 - the program that the step itself printed
    with np.errstate(all="ignore"):
        results = scope["step"](*[t.numpy() for t in (x, y)][:2])
    assert float(results[0]) == pytest.approx(loss, rel=1e-5)
    for k, a in text.memory.items():
        np.testing.assert_allclose(memory[k], a, rtol=1e-4, atol=1e-6, err_msg=k)
    grads = [p.grad.numpy() for p in net.parameters()]
    for g in results[1:]:
        assert any(g.shape == e.shape and np.allclose(g, e, rtol=1e-4, atol=1e-6) for e in grads)


@pytest.mark.parametrize("name", sorted(set(registry) - RANDOM))
def test_every_op_prints_what_runs(name):
    op = registry[name]
    for call in samples(op)[:2]:
        given = [np.array(a) for a in call.args if isinstance(a, np.ndarray)]
        if not given:
            continue

        def f(*tensors, call=call):
            it = iter(tensors)
            return op.call(*[next(it) if isinstance(a, np.ndarray) else a for a in call.args], **call.params)

        program, expected = record(f, given)
        lowered, checks = passes.lower(program, set())
        step = link.Step(lowered, checks=checks)
        text = source(step, names_of(step, {}, len(expected)))
        scope = dict(text.memory)
        exec(text, scope)  # noqa: S102 - our own text
        with np.errstate(all="ignore"):
            got = scope["step"](*[a.copy() for a in given])
        got = got if isinstance(got, tuple) else (got,)
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-10, equal_nan=True)
