"""``torch.autograd`` beside backward and grad: nodes, saved tensors, hooks, edges, dual numbers, the profiler."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

import chainrule

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # PyTorch's forward mode scripts something
LIBS = (chainrule, torch)


def leaf(lib, *values):
    return lib.tensor(values or (1.0, 2.0), dtype=lib.float64, requires_grad=True)


def plain(x):
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    return np.round(x.detach().numpy(), 12).tolist() if hasattr(x, "detach") else x


def agree(run):
    ours, theirs = (plain(run(lib)) for lib in LIBS)
    assert ours == theirs


def test_nodes():
    def run(lib):
        x = leaf(lib)
        y, z, w, s = x.exp(), x * x, x.pow(2), x.sum()
        z.grad_fn.metadata["mine"] = 1
        return (
            y.grad_fn._saved_result, z.grad_fn._saved_self, z.grad_fn._saved_other, w.grad_fn._saved_exponent,
            s.grad_fn._saved_self_sym_sizes, z.grad_fn.metadata, w.grad_fn.metadata, s.grad_fn.next_functions[0][1],
            (z * 2).sum().grad_fn.next_functions[0][0].name(),
        )  # fmt: skip

    agree(run)


@pytest.mark.parametrize("lib", LIBS, ids=["chainrule", "torch"])
def test_saved_values_are_gone_with_the_graph(lib):
    y = leaf(lib).exp()
    y.sum().backward()
    with pytest.raises(RuntimeError, match="directly access saved tensors after they have already been freed"):
        _ = y.grad_fn._saved_result
    with pytest.raises(AttributeError, match="_saved_nothing"):
        _ = leaf(lib).exp().grad_fn._saved_nothing


def test_multi_grad_hooks():
    def run(lib):
        a, b, seen = leaf(lib), leaf(lib), []
        handle = lib.autograd.graph.register_multi_grad_hook((a, b), lambda gs: seen.append(list(gs)))
        (a * 2 + b * 3).sum().backward()
        (a * 2).sum().backward()  # b gets none
        handle.remove()
        (a * 2 + b * 3).sum().backward()
        count = [0]

        def one(g):
            count[0] += 1

        lib.autograd.graph.register_multi_grad_hook((a, b), one, mode="any")
        for _ in range(2):
            (a * 2 + b * 3).sum().backward()
        return seen, count

    agree(run)


def test_mutation_edges_and_hooks():
    def run(lib):
        graph, x = lib.autograd.graph, leaf(lib)
        with graph.allow_mutation_on_saved_tensors() as context:
            y = x.clone()
            z = (y**2).sum()
            y.mul_(3)
            (g,) = lib.autograd.grad(z, x)
        context.clear()
        with graph.save_on_cpu(pin_memory=False):
            (h,) = lib.autograd.grad((x * x).exp().sum(), x)
        y = x * 2
        edge = graph.get_gradient_edge(y)
        of_edge = lib.autograd.grad(y.exp().sum(), edge, retain_graph=True)
        of_leaf = lib.autograd.grad(y.exp().sum(), [graph.get_gradient_edge(x)])
        y = x * 2
        lib.autograd.backward(graph.get_gradient_edge(y), lib.ones(2, dtype=lib.float64))
        y = x * 2
        y.grad_fn.register_prehook(lambda g: (g[0] * 10,))
        return g, h, of_edge, of_leaf, edge.node.name(), edge.output_nr, x.grad, lib.autograd.grad(y.sum(), x)

    agree(run)


@pytest.mark.parametrize("lib", LIBS, ids=["chainrule", "torch"])
def test_hooks_that_are_not_allowed(lib):
    graph = lib.autograd.graph
    with (
        graph.disable_saved_tensors_hooks("not here"),
        pytest.raises(RuntimeError, match="not here"),
        graph.saved_tensors_hooks(lambda t: t, lambda t: t),
    ):
        leaf(lib).exp()
    with pytest.raises(RuntimeError, match="does not require grad"):
        graph.get_gradient_edge(lib.ones(2))
    with pytest.raises(ValueError, match="Expects mode to be one of"):
        graph.register_multi_grad_hook((leaf(lib),), print, mode="some")
    with pytest.raises(RuntimeError, match="The differentiated Tensor at index 0 appears to not have been used"):
        lib.autograd.grad(leaf(lib).sum(), leaf(lib))


def test_custom_functions_in_the_newer_form():
    def run(lib):
        class Pair(lib.autograd.Function):
            generate_vmap_rule = True

            @staticmethod
            def forward(x, y):
                return x * y, x + y

            @staticmethod
            def setup_context(ctx, inputs, output):
                ctx.save_for_backward(*inputs)
                ctx.save_for_forward(*inputs)
                ctx.mark_non_differentiable(output[1])
                ctx.set_materialize_grads(False)

            @staticmethod
            def backward(ctx, g, h):
                assert h is None
                x, y = ctx.saved_tensors
                return (g * y if ctx.needs_input_grad[0] else None), (g * x if ctx.needs_input_grad[1] else None)

            @staticmethod
            def jvp(ctx, tx, ty):
                return tx, None

            @staticmethod
            def vmap(info, in_dims, x, y):
                return Pair.apply(x, y), (0, 0)

        x = leaf(lib)
        a, b = Pair.apply(x, lib.tensor([3.0, 4.0], dtype=lib.float64))
        a.sum().backward()
        return x.grad, b.requires_grad, a.grad_fn.name()

    agree(run)


def test_dual_numbers():
    def run(lib):
        fw = importlib.import_module(f"{lib.__name__}.autograd.forward_ad")
        p, t = leaf(lib).detach(), lib.tensor([1.0, -1.0], dtype=lib.float64)
        lin = lib.nn.Linear(2, 1).double()
        with fw.dual_level():
            d = fw.make_dual(p, t)
            out = fw.unpack_dual((d.sin() * d).exp())
            own, none = fw.unpack_dual(d), fw.unpack_dual(p * 2)
            for name, w in list(lin.named_parameters()):
                delattr(lin, name)
                setattr(lin, name, fw.make_dual(w.detach(), lib.ones_like(w)))
            net = fw.unpack_dual(lin(p[None]))
            q = leaf(lib)
            inner = fw.unpack_dual((fw.make_dual(q, t) ** 3).sum()).tangent
            (mixed,) = lib.autograd.grad(inner, q)
        assert not out.primal.requires_grad
        assert not out.tangent.requires_grad
        return out, own, none.tangent, net.tangent, inner, mixed

    agree(run)


@pytest.mark.parametrize("lib", LIBS, ids=["chainrule", "torch"])
def test_dual_numbers_that_are_not(lib):
    fw = importlib.import_module(f"{lib.__name__}.autograd.forward_ad")
    with pytest.raises(RuntimeError, match="Trying to create a dual Tensor for forward AD but no level exists"):
        fw.make_dual(lib.ones(2), lib.ones(2))
    with fw.dual_level():
        with pytest.raises(ValueError, match="Expected primal to be floating point"):
            fw.make_dual(lib.ones(2, dtype=lib.int64), lib.ones(2))
        with pytest.raises(RuntimeError, match="different size"):
            fw.make_dual(lib.ones(2), lib.ones(3))
        with pytest.raises(RuntimeError, match="Nested forward mode AD is not supported"):
            fw.enter_dual_level()


@pytest.mark.filterwarnings("ignore")  # PyTorch's profiler on machines without its counters
def test_profiler_counts_ops_and_regions():
    def run(lib):
        x = leaf(lib)
        with lib.profiler.profile(activities=[lib.profiler.ProfilerActivity.CPU], record_shapes=True) as prof:
            for _ in range(3):
                with lib.profiler.record_function("mine"):
                    (x * x).exp()
        rows = {e.key: e for e in prof.key_averages()}
        table = prof.key_averages().table(sort_by="cpu_time_total", row_limit=10)
        assert "aten::exp" in table
        assert "# of Calls" in table
        assert rows["aten::exp"].cpu_time_total > 0
        return [rows[k].count for k in ("aten::mul", "aten::exp", "mine")]

    agree(run)


def test_profiler_schedules():
    def run(lib):
        plan = lib.profiler.schedule(wait=1, warmup=1, active=2, repeat=2, skip_first=1)
        return [plan(i).name for i in range(12)]

    agree(run)
    done = []
    plan = chainrule.profiler.schedule(wait=1, warmup=0, active=1, repeat=2)
    counts = lambda p: done.append([(e.key, e.count) for e in p.key_averages()])
    with chainrule.profiler.profile(schedule=plan, on_trace_ready=counts) as prof:
        for _ in range(5):
            leaf(chainrule).exp()
            prof.step()
    assert done == [[("aten::exp", 1)]] * 2


def test_gradcheck_names_inputs_in_single_precision():
    for lib in LIBS:
        x = lib.tensor([0.5, 1.0], requires_grad=True)
        with pytest.warns(UserWarning, match="Input #0 requires gradient and is not a double precision"):
            assert lib.autograd.gradcheck(lambda x: x * 1, (x,), atol=1e-1, rtol=1e-1, eps=1e-2)
