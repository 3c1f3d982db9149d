"""The training steps of programs that nobody wrote to be compiled: compiled, they do what eager ones do.

Each line names a program of tests/programs, the first and the last statement of a step, and what a compiled step is
refused for, if it is. The statements are made into a function (see ``outline``); the program runs for two steps. Each
is made from the same state twice: eagerly by a fork of the process, and compiled. All that could have changed has to
agree: results, parameters, buffers, gradients, optimizer state, options, and the random stream.

They agree where they differ by less than 64 roundings of the largest entry. Of programs with gradients that are 0 but
for roundings this asks too much: there parameters are moved by a rounding, at random, six times, and 8 times what that
makes of an eager step is what its numbers are good for.
"""

import contextlib
import functools
import gc
import importlib
import io
import os
import pickle
import re
import sys
import traceback
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from tests.compile.outline import outlined
from tests.compile.quick import quickly

import chainrule as torch
from chainrule.core.variable import Variable

STEPS, ROUNDINGS, MOVES = 2, 64, 6
PROGRAMS = Path(__file__).parents[1] / "programs"
LINES = """
actor_critic | _, newlogprob | optimizer.step()
char_rnn | hidden = rnn.initHidden() | for p in rnn.parameters()
checkpoints | optimizer.zero_grad() | ema.update(model)
continuous_control | pi, log_pi, _ = | soft_update(
conv_autoencoder | recon = model( | optimizer.step()
conv_autoencoder | code = torch.relu( | opt.step()
crf_tagger | model.zero_grad() | optimizer.step() | called item()
custom_functions | P3 = Leg | with torch.no_grad()
digits_mlp | pred = model(X) | optimizer.zero_grad()
dqn | batch = Transition( | optimizer.step() | draws Python's random
examples | y_pred = a + b | d -= learning_rate
examples | y_pred = model(xx) | with torch.no_grad()
examples | y_pred = X.mm(w1) | w2.grad.data.zero_()
gan | netD.zero_grad() | optimizerG.step()
generative | optimizer.zero_grad() | optimizer.step()
generative | r, f = ebm( | opt.step()
generative | bnn.zero_grad() | opt.step() | draws NumPy's random numbers
gpt | for micro in range(2) | optimizer.zero_grad
graphs | loss = nt_xent | opt.step()
graphs | p = fm(xs | opt.step()
lenet | optimizer.zero_grad() | optimizer.step()
llama | model(x, y) | sched.step() | puts a tensor that it makes into model.last_loss
lstm_classifier | optimizer.zero_grad() | accuracy = | uses pack_padded_sequence with lengths in a tensor
maml | optimizer.zero_grad() | optimizer.step() | draws NumPy's random numbers
matrix_factorisation | loss = nn.functional | optimizer.step()
mingpt | logits, self.loss = | self.optimizer.step() | puts a tensor that it makes into
names_mlp | hpreact = C[Xb] | loss.backward()
names_rnn | hidden = rnn.initHidden() | for p in rnn
names_rnn | target_line_tensor.unsqueeze_ | for p in gen | another shape
parametrizations | opt.zero_grad() | opt.step()
parametrizations | loss = F.cross_entropy(net(x) | opt.step()
physics | position, v = | optimizer.step()
pinn | adam.zero_grad() | adam.step()
reinforce | optimizer.zero_grad() | optimizer.step() | an argument has a graph of its own
reinforce | dist = Normal(mean | optimizer.step()
resnet | model.train() | scheduler.step() | changes shapes.stem
schedulers | optimizer.zero_grad() | optimizer.step()
seq2seq | encoder_optimizer.zero_grad() | decoder_optimizer.step()
siamese | anchor = net(data) | optimizer.step()
spatial_transformer | optimizer.zero_grad() | optimizer.step()
style | with torch.no_grad() | loss.backward() | puts a tensor that it makes into model.style_loss_1.loss
training_tools | with autocast( | scheduler.step()
training_tools | loss = distill | sched.step() | the shape of nonzero() depends on the values
transformer_classifier | optimizer.zero_grad() | scheduler.step()
vae | optimizer.zero_grad() | optimizer.step()
vision_nets | loss = F.cross_entropy( | optimizer.step()
wgan_gp | optimizer_D.zero_grad() | optimizer_D.step()
wgan_gp | optimizer_G.zero_grad() | optimizer_G.step()
word2vec | loss = model(pairs | optimizer.step()
word_lm | output = model(data) | optimizer.step()
word_lm | model.zero_grad() | for p in model.parameters()
"""
CHANGES = {
    "actor_critic": {".float().mean().item()": ".float().mean()"},
    "continuous_control": {
        "alpha = log_alpha.exp().item()": "alpha = log_alpha.exp().detach()",
        "    pi, log_pi, _ = policy.sample(state_batch, noise(rng, 16, 2))":
        "    eps = noise(rng, 16, 2)\n    pi, log_pi, _ = policy.sample(state_batch, eps)",
    },
    "custom_functions": {"    losses.append(loss.item())\n    loss.back": "    loss.back"},
    "examples": {".sum().item()\n    if t % 100 == 99:\n        print(t, loss)\n": ".sum()\n"},
    "gan": {
        "    netD.zero_grad()\n    real = noise(rng, n, 2) * 0.3 + mean\n":
        "    real, z = noise(rng, n, 2) * 0.3 + mean, noise(rng, n, nz)\n    netD.zero_grad()\n",
        "mean().item()": "mean().detach()", "netG(noise(rng, n, nz))": "netG(z)",
    },
    "gpt": {"n_layer: int = 2": "n_layer: int = 1"},
    "reinforce": {
        "    dist = Normal(mean, log_std.exp())\n    action = (mean + log_std.exp() * torch.from_numpy("
        "rng.standard_normal(64).astype(np.float32))).detach()\n":
        "    eps = torch.from_numpy(rng.standard_normal(64).astype(np.float32))\n"
        "    dist = Normal(mean, log_std.exp())\n    action = (mean + log_std.exp() * eps).detach()\n",
    },
    "seq2seq": {
        "outputs, _, attention = decoder(encoder_outputs, encoder_hidden, target)":
        "outputs = decoder(encoder_outputs, encoder_hidden, target)[0]", "12, 24, 5": "12, 24, 2",
    },
    "training_tools": {
        "        losses.update(loss.item(), images.size(0))\n        top1.update(acc1[0].item(), images.size(0))\n": "",
    },
    "transformer_classifier": {"10, 16, 4, 32, 2)": "10, 16, 4, 32, 1)"},
    "vae": {"noise(rng, *std.shape).to(std)": "torch.randn_like(std)", "        train_loss += loss.item()\n": ""},
    "wgan_gp": {
        "torch.from_numpy(rng.random((real_samples.size(0), 1)).astype(np.float32))":
        "torch.rand(real_samples.size(0), 1)",
        "\n    fake = G(noise(rng, 32, 4))": "\n    fake = G(torch.randn(32, 4)).detach()",
        "        fake = G(noise(rng, 32, 4))": "        fake = G(torch.randn(32, 4))",
    },
    "word_lm": {
        "ntokens, 16, 2, 32, 2, 0": "ntokens, 16, 2, 32, 1, 0", "ntokens, 16, 16, 2, 0": "ntokens, 16, 16, 1, 0",
        "hidden = repackage_hidden(hidden)\n        output, hidden = model(data, hidden)":
        "output, hidden = model(data, repackage_hidden(hidden))\n        hidden = repackage_hidden(hidden)",
    },
}  # fmt: skip
"""What the author changes first (numbers are looked at after a step, noise is drawn before it), and fewer layers."""
NOUGHTS = {"actor_critic", "conv_autoencoder", "graphs", "reinforce", "seq2seq", "transformer_classifier"}
"""Where gradients are 0 but for roundings, which the optimizer scales up to a whole step."""


def table():
    found = defaultdict(list)
    for line in LINES.strip().splitlines():
        program, first, last, *refusal = (part.strip() for part in line.split(" | "))
        found[program].append((first, last, "".join(refusal)))
    return found


TABLE = table()


class Enough(Exception):
    """Every step of the program has been seen."""


class Step:
    """A step of a program: compared for some calls, eager from then on."""

    def __init__(self, program, number, function, steps):
        self.program, self.function, self.steps, self.calls = program, function, steps, 0
        self.refusal = TABLE[program][number][2]
        self.compiled = torch.compile(function)
        steps.append(self)

    @property
    def done(self):
        """Whether the loop may end: no step in it is still under way."""
        return all(s.calls >= STEPS for s in self.steps if s.calls)

    def __call__(self, *args):
        if self.calls >= STEPS:
            return self.function(*args)
        self.calls += 1
        before = State(args)
        eager = in_a_fork(lambda: before.after(self.function(*args)))()
        moved = None
        if self.program in NOUGHTS:
            moved = in_a_fork(
                lambda: [in_a_fork(lambda s=s: before.moved(s, self.function, args))() for s in range(MOVES)]
            )
        if self.refusal:
            with pytest.raises(torch.compile.CompileError, match=re.escape(self.refusal)):
                self.compiled(*args)
            self.calls = STEPS
            result = self.function(*args)  # as if nothing had happened
        else:
            result = self.compiled(*args)
        agree(before.after(result), eager, moved)
        if [s.calls for s in self.steps] == [STEPS] * len(TABLE[self.program]):
            raise Enough
        return result


def in_a_fork(f):
    """Start a fork that will give ``f()`` when it is asked: returns the function that asks, once."""
    ask, asked = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(ask[1])
        if os.read(ask[0], 1):
            try:
                result = f()
            except BaseException:
                result = RuntimeError(traceback.format_exc())
            with os.fdopen(asked[1], "wb") as file:
                pickle.dump(result, file)
        os._exit(0)
    os.close(ask[0]), os.close(asked[1])

    def answer():
        os.write(ask[1], b"x")
        with os.fdopen(asked[0], "rb") as file:
            result = pickle.loads(file.read())
        os.close(ask[1])
        os.waitpid(child, 0)
        if isinstance(result, Exception):
            raise result
        return result

    def leave():
        os.close(ask[1]), os.close(asked[0])
        os.waitpid(child, 0)

    answer.leave = leave
    return answer


class State:
    """All that a step may change, by name: of every module and optimizer that lives, and of the step's arguments."""

    def __init__(self, args):
        kinds = (torch.optim.Optimizer, torch.nn.Module)
        found = functools.cache(lambda kind: issubclass(kind, kinds))
        objects = [o for o in gc.get_objects() if found(type(o))]
        self.optimizers = [o for o in objects if isinstance(o, torch.optim.Optimizer)]
        self.tensors = {f"argument {i}": x for i, x in enumerate(args) if isinstance(x, Variable)}
        for k, o in enumerate(self.optimizers):
            for n, p in enumerate(p for group in o.param_groups for p in group["params"]):
                self.tensors[f"parameter {n} of optimizer {k}"] = p
        for k, m in enumerate(o for o in objects if isinstance(o, torch.nn.Module) and "_parameters" in vars(o)):
            for name, t in (*m._parameters.items(), *m._buffers.items()):
                if t is not None:
                    self.tensors[f"{name} of {type(m).__name__} {k}"] = t

    def after(self, results):
        found = {"random numbers": torch.get_rng_state().numpy().copy()}
        for i, r in enumerate(results if isinstance(results, tuple) else ()):
            found[f"result {i}"] = r.detach().numpy(force=True).copy() if isinstance(r, Variable) else repr(r)
        for name, t in self.tensors.items():
            found[name] = t._array.copy()
            found[f"gradient of {name}"] = None if t._grad is None else t._grad._array.copy()
        for k, o in enumerate(self.optimizers):
            for n, group in enumerate(o.param_groups):
                found[f"options {n} of optimizer {k}"] = repr({a: b for a, b in group.items() if a != "params"})
            for n, p in enumerate(p for group in o.param_groups for p in group["params"]):
                for key, x in o.state.get(p, {}).items():
                    name = f"{key} of parameter {n} of optimizer {k}"
                    found[name] = x._array.copy() if isinstance(x, Variable) else repr(x)
        return found

    def moved(self, seed, function, args):
        """What follows from parameters that are moved by a rounding, at random."""
        rng = np.random.default_rng(seed)
        for t in {id(t): t for t in self.tensors.values() if t.requires_grad}.values():
            t._array *= (1 + rng.choice([-1, 1], t._array.shape) * np.finfo(t._array.dtype).eps).astype(t._array.dtype)
        return self.after(function(*args))


def agree(got, wanted, moved):
    """Raise where a number is further from the eager one than roundings can move it.

    Args:
        moved: a function that gives the results of moved parameters, or None.
    """
    assert got.keys() == wanted.keys(), sorted(got.keys() ^ wanted.keys())
    others = None
    for name, b in wanted.items():
        a = got[name]
        if not isinstance(b, np.ndarray) or b.dtype.kind != "f":
            assert np.array_equal(a, b), f"{name}: {a} instead of {b}"
            continue
        assert (a.shape, a.dtype) == (b.shape, b.dtype), name
        with np.errstate(all="ignore"):
            allowed = ROUNDINGS * np.finfo(b.dtype).eps * np.max(np.abs(b), initial=0, where=np.isfinite(b))
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            fine = same | (np.abs(a - b) <= allowed)
            if not fine.all() and moved is not None:
                others = moved() if others is None else others
                fine |= np.abs(a - b) <= allowed + 8 * np.max([np.abs(o[name] - b) for o in others], axis=0)
        assert fine.all(), f"{name}: {a[~fine][:4]} instead of {b[~fine][:4]}"
    if others is None and moved is not None:
        moved.leave()


def run(program):
    """Run a program with its steps compiled and compared."""
    path = PROGRAMS / f"{program}.py"
    text = path.read_text("utf-8")
    for old, new in CHANGES.get(program, {}).items():
        assert old in text, old
        text = text.replace(old, new)
    steps = []
    text = outlined(text, [line[:2] for line in TABLE[program]], "step")
    scope = {"__name__": "__main__", "step": lambda n: lambda f: Step(program, n, f, steps)}
    sys.path.insert(0, str(PROGRAMS))
    with torch.as_torch(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Enough):
            exec(compile(text, str(path), "exec"), scope)
    assert [s.calls for s in steps] == [STEPS] * len(steps)


@pytest.fixture(scope="module", autouse=True)
def everything_is_loaded():
    """So that no fork has to load it for itself."""
    for module in ("distributions", "linalg", "nn.utils.parametrize", "optim.swa_utils", "utils.data", "func"):
        importlib.import_module(f"chainrule.{module}")
    with quickly():
        torch.compile(lambda x: torch.nn.functional.conv2d(x, x).sum())(torch.ones(1, 1, 3, 3))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("program", TABLE)
def test_steps_of_programs(program):
    # In a fork, with which ends what a program changes for the whole process.
    in_a_fork(lambda: (gc.freeze(), run(program)))()
