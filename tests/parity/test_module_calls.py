"""Calls on modules and containers, in PyTorch and here: the same answer in print, or the same error."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch

import chainrule

sys.path.insert(0, str(Path(__file__).parent))

from pairs import same_error


def network(M):
    nn = M.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)
            self.register_buffer("b", M.zeros(1))
            self.register_buffer("nb", M.zeros(2), persistent=False)
            self.p = nn.Parameter(M.ones(3))

        def forward(self, x, k=1):
            return self.fc(x) * self.p * k

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = Block()
            self.l = nn.ModuleList([Block(), nn.ReLU()])
            self.d = nn.ModuleDict({"x": nn.Linear(3, 2)})
            self.tied = self.a.fc

        def forward(self, x):
            return self.d["x"](self.l[1](self.l[0](self.a(x), k=2)))

    return Net()


CALLS = [
    "M.nn.Linear(2,3).load_state_dict({})",
    "M.nn.Linear(2,3).load_state_dict({'weight':M.ones(2,2),'bias':M.ones(3)})",
    "M.nn.Linear(2,3).load_state_dict({'weight':M.ones(3,2),'bias':1})",
    "M.nn.Linear(2,3).load_state_dict(3)",
    "M.nn.Linear(2,3).load_state_dict({'weight':M.ones(3,2),'bias':M.ones(3),'x':M.ones(1)})",
    "M.nn.Linear(2,3).load_state_dict({'weight':M.ones(2,2),'x':M.ones(1)},strict=False)",
    "net.load_state_dict({k:v for k,v in net.state_dict().items() if 'a.' not in k})",
    "net.get_submodule('a.fc')",
    "net.get_submodule('a.zz')",
    "net.get_submodule('a.p')",
    "net.get_submodule('')is net",
    "net.get_parameter('a.p').shape",
    "net.get_parameter('a.b')",
    "net.get_parameter('a')",
    "net.get_parameter('q')",
    "net.get_buffer('a.nb').shape",
    "net.get_buffer('a.p')",
    "net.set_submodule('a.fc',M.nn.ReLU())",
    "net.set_submodule('',M.nn.ReLU())",
    "net.set_submodule('a.zz',M.nn.ReLU())",
    "net.set_submodule('a.zz',M.nn.ReLU(),strict=True)",
    "net.set_submodule('zz',M.nn.ReLU())",
    "net.set_submodule('a.fc',3)",
    "net.set_submodule('a.p.q',M.nn.ReLU())",
    "net.set_submodule('l.0',M.nn.Tanh())",
    "net.foo",
    "net.train('x')",
    "net.train(False).a.training",
    "net.half().a.p.dtype",
    "net.double().a.b.dtype",
    "net.bfloat16().a.p.dtype",
    "net.to(M.int64)",
    "net.to('cpu') is net",
    "net.to(M.float64).a.p.dtype",
    "net.to(M.ones(1).double()).a.p.dtype",
    "net.to(dtype=M.float16).a.p.dtype",
    "net.to('cpu',M.float64).a.p.dtype",
    "net.type(M.float64).a.p.dtype",
    "net.float().a.p.dtype",
    "net.cpu() is net",
    "net.share_memory() is net",
    "net.eval().training",
    "net.apply(lambda m:None) is net",
    "net.requires_grad_(False).a.p.requires_grad",
    "net.extra_repr()",
    "net._get_name()",
    "net.register_module('zz',M.nn.ReLU())",
    "net.add_module('a.b',M.nn.ReLU())",
    "net.add_module('',M.nn.ReLU())",
    "net.add_module('forward',M.nn.ReLU())",
    "net.add_module('zz',3)",
    "net.add_module(3,M.nn.ReLU())",
    "net.register_parameter('x',M.ones(1))",
    "net.register_parameter('x',M.nn.Parameter(M.ones(1))*2)",
    "net.register_parameter('a.b',None)",
    "net.register_parameter('',None)",
    "net.register_parameter('a',M.nn.Parameter(M.ones(1)))",
    "net.register_parameter(3,None)",
    "net.register_buffer('x',3)",
    "net.register_buffer('a',M.ones(1))",
    "net.register_buffer('a.b',M.ones(1))",
    "net.register_buffer('',M.ones(1))",
    "setattr(net.a,'p',M.ones(3))",
    "setattr(net.a,'p',3)",
    "setattr(net.a,'p',None)",
    "setattr(net,'a',3)",
    "setattr(net,'a',M.ones(1))",
    "setattr(net.a,'b',3)",
    "setattr(net.a,'b',M.ones(2))",
    "setattr(net.a,'b',None)",
    "setattr(net,'a',M.nn.Parameter(M.ones(1)))",
    "delattr(net.a,'p')",
    "delattr(net.a,'zz')",
    "delattr(net,'a')",
    "'a' in dir(net)",
    "[n for n,_ in net.named_parameters()]",
    "[n for n,_ in net.named_parameters(remove_duplicate=False)]",
    "[n for n,_ in net.named_modules()]",
    "[n for n,_ in net.named_modules(remove_duplicate=False)]",
    "[n for n,_ in net.named_modules(prefix='z')]",
    "[n for n,_ in net.named_buffers()]",
    "[n for n,_ in net.named_buffers(recurse=False)]",
    "[n for n,_ in net.named_children()]",
    "[n for n,_ in net.named_parameters(prefix='z',recurse=False)]",
    "M.nn.Module(3)",
    "M.nn.Module(foo=3)",
    "M.nn.Module()(3)",
    "M.nn.Module().forward(3)",
    "M.nn.Module().get_extra_state()",
    "M.nn.Module().set_extra_state(3)",
    "net.to_empty(device='cpu') is net",
    "M.nn.Sequential(1)",
    "M.nn.Sequential(M.nn.ReLU())[1]",
    "M.nn.Sequential(M.nn.ReLU(),M.nn.Tanh())[-1]",
    "M.nn.Sequential(M.nn.ReLU(),M.nn.Tanh())[:1]",
    "M.nn.Sequential(M.nn.ReLU()).append(3)",
    "M.nn.Sequential(M.nn.ReLU())+M.nn.Sequential(M.nn.Tanh())",
    "M.nn.Sequential(M.nn.ReLU())+3",
    "M.nn.Sequential(M.nn.ReLU())*2",
    "M.nn.Sequential(M.nn.ReLU()).insert(0,M.nn.Tanh())",
    "M.nn.Sequential(M.nn.ReLU()).insert(5,M.nn.Tanh())",
    "M.nn.Sequential(M.nn.ReLU()).extend([M.nn.Tanh()])",
    "M.nn.Sequential(M.nn.ReLU()).pop(0)",
    "M.nn.Sequential(M.nn.ReLU()).pop(3)",
    "len(M.nn.Sequential())",
    "M.nn.Sequential({'a':M.nn.ReLU()})",
    "M.nn.ModuleList([M.nn.ReLU()])[3]",
    "M.nn.ModuleList([M.nn.ReLU()])[-1]",
    "M.nn.ModuleList([M.nn.ReLU(),M.nn.Tanh()])[::2]",
    "M.nn.ModuleList(3)",
    "M.nn.ModuleList([3])",
    "M.nn.ModuleList([M.nn.ReLU()]).extend(3)",
    "M.nn.ModuleList([M.nn.ReLU()])(3)",
    "M.nn.ModuleList([M.nn.ReLU()]).insert(0,M.nn.Tanh())",
    "M.nn.ModuleList([M.nn.ReLU()])+[M.nn.Tanh()]",
    "M.nn.ModuleList([M.nn.ReLU()]).pop(-1)",
    "M.nn.ModuleDict({'a':M.nn.ReLU()})['b']",
    "M.nn.ModuleDict([('a',M.nn.ReLU())])",
    "M.nn.ModuleDict(3)",
    "M.nn.ModuleDict([1])",
    "M.nn.ModuleDict([('a',)])",
    "M.nn.ModuleDict({'a':3})",
    "M.nn.ModuleDict({'a':M.nn.ReLU()}).pop('z')",
    "M.nn.ModuleDict({'a':M.nn.ReLU()})(3)",
    "M.nn.ModuleDict({'b':M.nn.ReLU(),'a':M.nn.Tanh()})",
    "M.nn.ModuleDict({'a.b':M.nn.ReLU()})",
    "M.nn.ModuleDict({'keys':M.nn.ReLU()})",
    "M.nn.ParameterList([M.ones(2),M.nn.Parameter(M.ones(1)),3])",
    "M.nn.ParameterList([M.ones(2)])[4]",
    "M.nn.ParameterList([M.ones(2)])(1)",
    "M.nn.ParameterList(3)",
    "M.nn.ParameterList([M.ones(2)]).extend(M.ones(2))",
    "list(M.nn.ParameterList([M.ones(2),M.ones(1)]).state_dict())",
    "M.nn.ParameterList([M.ones(2),M.ones(1)])[:1]",
    "M.nn.ParameterDict({'a':M.ones(2),'b':3})",
    "M.nn.ParameterDict({'a':M.ones(2)})['z']",
    "M.nn.ParameterDict({1:M.ones(2)})",
    "M.nn.ParameterDict({'a':M.ones(2)})(1)",
    "M.nn.ParameterDict({'a':M.ones(2)})|{'b':M.ones(1)}",
    "M.nn.ParameterDict({'a':M.ones(2)}).popitem()[0]",
    "M.nn.ParameterDict({'a':M.ones(2)}).setdefault('b',M.ones(1))",
    "M.nn.ParameterDict().fromkeys(['a','b'],M.ones(1))",
    "M.nn.ParameterDict([('a',M.ones(1))])",
    "M.nn.ParameterDict(3)",
    "list(reversed(M.nn.ParameterDict({'a':M.ones(2),'c':M.ones(2)})))",
    "M.nn.Buffer(M.ones(2))",
    "M.nn.Parameter(M.ones(2).long())",
    "M.nn.Parameter(M.ones(2),requires_grad=False)",
    "M.nn.Parameter()",
    "copy.deepcopy(M.nn.Parameter(M.ones(2)))",
    "pickle.loads(pickle.dumps(M.nn.Parameter(M.ones(2))))",
    "isinstance(M.nn.Buffer(M.ones(2)),M.nn.Buffer)",
    "isinstance(M.nn.parameter.Buffer(M.ones(2)),M.Tensor)",
    "[n for n,_ in copy.deepcopy(net).named_parameters()]",
    "copy.deepcopy(net).a.fc is copy.deepcopy(net).tied",
    "(lambda n:n.a.fc is n.tied)(copy.deepcopy(net))",
    "net.zero_grad()",
    "[p.grad for p in (net(M.ones(1,3)).sum().backward(),net.zero_grad(),net)[2].parameters()]",
    "(net(M.ones(1,3)).sum().backward(),net.zero_grad(set_to_none=False),[p.grad.sum() for p in net.parameters()])[2]",
    "net.state_dict()._metadata",
    "net.training",
    "net._version",
    "M.nn.Module.dump_patches",
    "net.T_destination",
    "repr(M.nn.Identity(1,2,a=3))",
]


def answer(M, text):
    return str(eval(text, {"M": M, "net": network(M), "copy": copy, "pickle": pickle}))


@pytest.mark.parametrize("text", CALLS)
def test_call(text):
    try:
        expected = answer(torch, text)
    except Exception:
        same_error(lambda M: answer(M, text))
        return
    assert answer(chainrule, text) == expected


def hooked(M):
    """What hooks of every kind see, in the order in which they are called."""
    seen = []
    net, x = network(M), M.ones(2, 3, requires_grad=True)
    a, first, last, everywhere = net.a, net.l[0], net.d["x"], M.nn.modules.module
    a.register_forward_pre_hook(lambda m, args: seen.append(("pre", len(args))))
    a.register_forward_pre_hook(lambda m, args: seen.append("first"), prepend=True)
    first.register_forward_pre_hook(lambda m, args, kw: seen.append(("pre", len(args), sorted(kw))), with_kwargs=True)
    first.register_forward_pre_hook(lambda m, args, kw: (args, {"k": 3}), with_kwargs=True)
    first.register_forward_hook(lambda m, args, kw, out: seen.append(("after", kw)), with_kwargs=True)
    a.register_forward_hook(lambda m, args, out: seen.append("one"))
    a.register_forward_hook(lambda m, args, out: seen.append("zero"), prepend=True)
    a.register_forward_hook(lambda m, args, out: out * 2)
    a.register_full_backward_hook(lambda m, gi, go: seen.append(("back", len(gi), tuple(gi[0].shape), len(go))))
    a.register_full_backward_hook(lambda m, gi, go: seen.append("back first"), prepend=True)
    a.register_full_backward_pre_hook(lambda m, go: seen.append(("before back", len(go))))
    last.register_full_backward_hook(lambda m, gi, go: (gi[0] * 2,))
    last.register_full_backward_pre_hook(lambda m, go: (go[0] * 3,))
    handles = [
        everywhere.register_module_forward_pre_hook(lambda m, args: seen.append(f"> {type(m).__name__}")),
        everywhere.register_module_forward_hook(lambda m, args, out: seen.append(f"< {type(m).__name__}")),
        everywhere.register_module_full_backward_hook(lambda m, gi, go: seen.append(f"b {type(m).__name__}")),
        everywhere.register_module_full_backward_pre_hook(lambda m, go: seen.append(f"p {type(m).__name__}")),
    ]
    with M.no_grad():
        for p in net.parameters():
            p.fill_(0.5)
    net(x).sum().backward()
    for handle in handles:
        handle.remove()
    return [*seen, x.grad.tolist(), net(x).tolist()]


def test_hooks():
    assert hooked(chainrule) == hooked(torch)


def test_hooks_of_one_name():
    def both(M):
        layer = M.nn.Linear(2, 2)
        layer.register_backward_hook(lambda *a: None)
        layer.register_full_backward_hook(lambda *a: None)

    same_error(both)


def loaded(M):
    """What the hooks of state_dicts see."""
    seen, net = [], network(M)
    net.register_state_dict_pre_hook(lambda m, prefix, keep: seen.append((prefix, keep)))
    net.a.register_state_dict_post_hook(lambda m, s, prefix, local: seen.append((len(s), prefix, sorted(local))))
    net._register_state_dict_hook(lambda m, s, prefix, local: seen.append("old"))
    net.register_load_state_dict_pre_hook(lambda *a: seen.append(("pre", len(a), a[2])))
    net.a._register_load_state_dict_pre_hook(lambda *a: seen.append(("plain", len(a), a[1])))
    net.a._register_load_state_dict_pre_hook(lambda *a: seen.append(("module", len(a))), with_module=True)
    net.register_load_state_dict_post_hook(lambda m, keys: seen.append(tuple(map(len, keys))))
    seen.append([type(v).__name__ for v in net.state_dict(keep_vars=True).values()])
    seen.append(list(net.state_dict(prefix="q.")))
    state = net.state_dict()
    seen.append(str(net.load_state_dict(state)))
    state.pop("a.p")
    state["zz"] = state["a.qq"] = M.ones(1)
    return [*seen, str(net.load_state_dict(state, strict=False))]


def test_state_dict_hooks():
    assert loaded(chainrule) == loaded(torch)


def assigned(M):
    state = {k: v.double() for k, v in M.nn.Linear(2, 2).state_dict().items()}
    layer = M.nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    layer.load_state_dict(state, assign=True)
    bn = M.nn.BatchNorm1d(2)
    bn.load_state_dict(M.nn.BatchNorm1d(2).state_dict(), assign=True)
    return [
        str(layer.weight.dtype), type(layer.weight).__name__, layer.weight.requires_grad, layer.bias.requires_grad,
        layer.weight.data_ptr() == state["weight"].data_ptr(), [type(t).__name__ for t in bn.state_dict().values()],
    ]  # fmt: skip


def test_assigned_state():
    assert assigned(chainrule) == assigned(torch)


def test_state_of_old_versions():
    def of_batch_norm(M):
        bn = M.nn.BatchNorm1d(2)
        return str(bn.load_state_dict({k: v for k, v in bn.state_dict().items() if "num" not in k}))

    assert of_batch_norm(chainrule) == of_batch_norm(torch)
    old = {"running_mean": [0.0, 0.0], "running_var": [1.0, 1.0]}
    same_error(lambda M: M.nn.InstanceNorm1d(2).load_state_dict({k: M.tensor(v) for k, v in old.items()}))
