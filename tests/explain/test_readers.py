"""Listing, picture, steps, why_no_grad, and what is said when the input makes no sense."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import chainrule as torch
from chainrule import nn
from chainrule.errors import GradientError, IndexOutOfRange, ModifiedError, UsageError
from chainrule.explain import annotate, backward_source, backward_steps, draw, explain, why_no_grad


def _small():
    x = torch.tensor([[0.5, -1.0]])
    W = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], requires_grad=True)
    z = x @ W
    a = torch.tanh(z)
    loss = (a * a).sum()
    return loss, W, a


# --- bad input -----------------------------------------------------------------------------------------------------


def test_a_freed_graph_says_retain_graph():
    loss, W, _ = _small()
    loss.backward()
    for reader in (lambda: explain(loss, W), loss.backward_source, loss.annotate, loss.draw, loss.backward_steps):
        with pytest.raises(GradientError, match="retain_graph=True"):
            reader()


def test_a_tensor_outside_the_graph():
    loss, _, _ = _small()
    with pytest.raises(UsageError, match=r"not part of this graph\n  the graph's leaves are W \(2, 3\)"):
        loss.explain(torch.ones(3, requires_grad=True))


def test_an_entry_out_of_range():
    loss, W, _ = _small()
    with pytest.raises(IndexOutOfRange, match="index 7 is out of bounds for dimension 1 with size 3"):
        loss.explain(W, (0, 7))
    with pytest.raises(IndexOutOfRange, match="has 2 dimensions, the entry"):
        loss.explain(W, (0,))
    assert loss.explain(W, (-1, -1)).entry == (1, 2)


def test_an_unknown_name_lists_the_known_ones():
    loss, _, _ = _small()
    with pytest.raises(UsageError, match="nothing in this graph is called V\n  its names are W, x"):
        loss.explain("V[0,0]")


def test_no_graph_and_no_scalar():
    with pytest.raises(GradientError, match="no graph: nothing it was computed from requires grad"):
        explain(torch.tensor(1.0), torch.tensor(1.0))
    with pytest.raises(GradientError, match="grad can be implicitly created only for scalar outputs"):
        explain(torch.ones(2, requires_grad=True) * 2)


def test_a_leaf_changed_since_is_named():
    loss, W, _ = _small()
    with torch.no_grad():
        W -= 0.1
    with pytest.raises(ModifiedError, match=r"changed in place since[\s\S]*W -= 0\.1[\s\S]*before optimizer\.step"):
        loss.explain(W)


def test_nothing_of_the_users_is_touched():
    loss, W, a = _small()
    seen = []
    a.register_hook(seen.append)
    a.retain_grad()
    explain(loss, W), backward_source(loss), annotate(loss), draw(loss).html(), backward_steps(loss).run()
    assert W.grad is None
    assert a.grad is None
    assert not seen
    loss.backward()
    assert len(seen) == 1


# --- entries and names -----------------------------------------------------------------------------------------------


def test_an_entry_taken_afterwards_is_recognised():
    loss, W, a = _small()
    assert loss.explain(W[1, 2]).entry == (1, 2)
    assert loss.explain(W[1][2]).entry == (1, 2)
    assert loss.explain(W.T[2, 1]).entry == (1, 2)
    assert loss.explain("W[1,2]").name == "dL/dW[1,2]"
    assert loss.explain(a, (0, 1)).value == pytest.approx(2 * a[0, 1].item(), rel=1e-6)


def test_in_place_writes_and_views_are_followed():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    h = x * 2
    h[1] = x[0] * x[2]
    h.mul_(3.0)
    loss = (h * h).sum()
    source = backward_source(loss)
    f = source.functions()
    gradient = f["backward"](f["forward"](**source.inputs)[1])["x"]
    found = explain(loss, x)
    loss.backward()
    np.testing.assert_array_equal(gradient, x.grad.numpy())
    assert found.chain[0].total == pytest.approx(x.grad.numpy()[found.entry], rel=1e-6)


# --- the listing ---------------------------------------------------------------------------------------------------


def test_the_listing_has_a_line_per_source_line():
    loss, W, _ = _small()
    (lines,) = annotate(loss).files.values()
    assert [ln.source.strip() for ln in lines] == ["z = x @ W", "a = torch.tanh(z)", "loss = (a * a).sum()"]
    (gradient,) = torch.autograd.grad(loss, W, retain_graph=True)
    ((name, shape, norm),) = annotate(loss).leaves
    assert (name, shape) == ("W", (2, 3))
    assert norm == pytest.approx(np.linalg.norm(gradient.numpy()), rel=1e-6)
    assert "\033[" not in str(annotate(loss))
    assert "<table>" in annotate(loss)._repr_html_()
    json.dumps(annotate(loss).to_dict())


def test_the_birth_of_a_nan_backward():
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    mask = torch.tensor([0.0, 1.0])
    r = torch.sqrt(x) * mask
    (birth,) = annotate(r.sum()).births
    assert birth.direction == "backward"
    assert birth.source == "r = torch.sqrt(x) * mask"
    assert birth.algebra.startswith("0 · ∞: sqrt′(0) = ∞ times mask 0")
    assert "torch.where(mask, x, 1.0)" in birth.rewrite
    where = torch.sqrt(torch.where(mask > 0, x, 1.0)) * mask  # the rewrite it names
    assert not annotate(where.sum()).births


def test_the_birth_of_an_infinity_forward():
    x = torch.tensor([0.0, 1.0], requires_grad=True)
    y = torch.log(x)
    birth = annotate((y * 0.5).sum()).births[0]
    assert birth.direction == "forward"
    assert birth.source == "y = torch.log(x)"
    assert "log of x[0] = 0 = −∞" in birth.algebra


# --- the picture -----------------------------------------------------------------------------------------------------


def test_the_picture_is_well_formed_and_names_what_the_user_named():
    loss, _, _ = _small()
    drawing = draw(loss)
    root = ET.fromstring(drawing.svg())
    texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"x", "W", "z", "a", "L"} <= set(texts)
    assert "= x W" in texts
    assert any(t.startswith("∂") for t in texts)  # a small graph shows gradients in place
    page = drawing.html()
    assert not re.search(r"""(src|href)\s*=\s*["']https?:""", page.replace("http://www.w3.org/2000/svg", ""))
    assert "addEventListener" in page
    assert page.count("tabindex") >= 5


def test_edges_are_wider_where_more_gradient_flows():
    x = torch.tensor(1.0, requires_grad=True)
    big = x * 1000.0
    small = x * 0.001
    loss = big + small
    svg = draw(loss).svg()
    widths = {}
    for path in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"):
        tip = path.find("{http://www.w3.org/2000/svg}title").text
        widths.setdefault(tip, float(path.get("stroke-width")))
    assert max(w for t, w in widths.items() if "1000" in t) > max(w for t, w in widths.items() if "0.001" in t)


def test_boxes_do_not_overlap():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))
    loss = (net(torch.ones(3, 4)) ** 2).sum()
    boxes = []
    for g in ET.fromstring(draw(loss, collapse=False).svg()).iter("{http://www.w3.org/2000/svg}g"):
        x, y = (float(v) for v in re.findall(r"-?[\d.]+", g.get("transform")))
        rect = g.find("{http://www.w3.org/2000/svg}rect")
        boxes.append((x, y, x + float(rect.get("width")), y + float(rect.get("height"))))
    assert len(boxes) >= 12
    for i, (a, b, c, d) in enumerate(boxes):
        for p, q, r, s in boxes[:i]:
            assert c <= p or r <= a or d <= q or s <= b


def test_a_deep_network_collapses_by_module():
    net = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(50)])
    loss = net(torch.ones(2, 4)).sum()
    drawing = draw(loss)
    assert 40 <= len(drawing.root.children) <= 64
    assert all(c.kind == "group" for c in drawing.root.children[:40])
    covered = sorted(s.index for c in drawing.root.children for s in c.steps)
    assert covered == list(range(len(drawing.replay.steps)))


def test_ten_thousand_nodes_draw():
    w = torch.tensor(0.9999, requires_grad=True)
    h = torch.ones(3)
    for _ in range(5000):
        h = h * w
        h = h + 1.0
    loss = h.sum()
    page = draw(loss).html()
    assert len(json.loads(re.search(r"const G = (.*);\n", page).group(1))["steps"]) == 10_001


def test_mermaid_and_dot():
    loss, _, _ = _small()
    assert 'n2["L<br/>Σ (a · a)"]' in draw(loss).mermaid()
    assert draw(loss).dot().startswith("digraph backward {")


def test_saving_by_suffix(tmp_path):
    loss, _, _ = _small()
    for suffix in ("html", "svg", "mmd", "dot"):
        assert draw(loss, tmp_path / f"g.{suffix}") is not None
        assert (tmp_path / f"g.{suffix}").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"draw writes \.html"):
        draw(loss, tmp_path / "g.png")


# --- steps ---------------------------------------------------------------------------------------------------------


def test_steps_say_where_gradients_accumulate():
    x = torch.tensor(3.0, requires_grad=True)
    z = x * x + x
    steps = list(backward_steps(z))
    assert [(s.op, [r.accumulates for r in s.inputs]) for s in steps] == [
        ("add", [False, False]),
        ("mul", [True, True]),
    ]
    assert "+=" in str(steps[1])


def test_a_breakpoint_stops():
    h = torch.tensor([1.0, 2.0], requires_grad=True)
    for _ in range(30):
        h = h * 0.1
    steps = h.sum().backward_steps(until=lambda s: s.grad_norm < 1e-6)
    found = steps.run()
    assert found.grad_norm < 1e-6
    assert steps.done[-2].grad_norm >= 1e-6
    assert steps.run(lambda s: False) is None


# --- why_no_grad ----------------------------------------------------------------------------------------------------


def _line(cut):
    return cut.reason, cut.source


def test_every_cut_is_named_with_its_line():
    w = torch.tensor([2.0, 1.0], requires_grad=True)
    v = torch.tensor(1.0, requires_grad=True)
    a = w.detach() * v
    assert _line(why_no_grad(w, a.sum())) == ("detach", "a = w.detach() * v")
    b = torch.tensor([2.0, 1.0], requires_grad=True)
    with torch.no_grad():
        h = b * 2
    loss = (h * v).sum()
    assert _line(why_no_grad(b, loss)) == ("no_grad", "h = b * 2")
    c = torch.tensor([2.0, 1.0], requires_grad=True)
    mask = c > 1.5
    hits = (mask.float() * v).sum()
    assert _line(why_no_grad(c, hits)) == ("compare", "mask = c > 1.5")
    d = torch.tensor([2.0, 1.0], requires_grad=True)
    k = d.long() * v
    assert _line(why_no_grad(d, k.sum())) == ("integer", "k = d.long() * v")
    e = torch.tensor(2.0, requires_grad=True)
    n = e.item() * v
    assert _line(why_no_grad(e, n)) == ("number", "n = e.item() * v")
    unused = torch.tensor(2.0, requires_grad=True)
    assert why_no_grad(unused, n).reason == "unused"
    assert why_no_grad(torch.tensor(1.0)).reason == "requires_grad"
    assert why_no_grad(torch.tensor(1)).reason == "integer"
    assert why_no_grad(v * 2).reason == "not a leaf"


def _encode(t):
    return (t * 2).detach()


def test_a_cut_inside_a_function():
    w = torch.tensor(2.0, requires_grad=True)
    v = torch.tensor(2.0, requires_grad=True)
    code = _encode(w)
    loss = code * v
    assert _line(why_no_grad(w, loss)) == ("detach", "return (t * 2).detach()")


# --- small graphs ----------------------------------------------------------------------------------------------------


def test_a_value_read_twice_by_one_product_is_one_factor():
    x = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    z = x * 3.0
    L = z * z
    assert explain(L, x).equation == "dL/dx = dL/dz · dz/dx = 2z · 3 = 2(0.300000) · 3 = 1.800000"


def test_the_root_itself_and_an_empty_leaf():
    w = torch.tensor(2.0, requires_grad=True)
    assert str(explain(w, w)).splitlines()[-1] == "dw/dw = 1"
    assert backward_source(w).functions()["backward"]({}) == {"w": 1.0}
    e = torch.zeros(0, requires_grad=True)
    with pytest.raises(IndexOutOfRange, match="e is empty: it has no entry to explain"):
        explain(e.sum(), e)


def test_a_nan_in_the_data_is_not_blamed_on_an_op():
    x = torch.tensor([1.0, float("nan")])
    w = torch.tensor(2.0, requires_grad=True)
    y = x * w
    (birth,) = annotate(y.sum()).births
    assert birth.direction == "in the input"
    assert birth.algebra == "x[1] is NaN before anything is computed"


def test_an_overflow_is_called_one():
    x = torch.tensor([1e30, 1.0], requires_grad=True)
    y = x * 1e10
    birth = annotate(y.sum()).births[0]
    assert birth.direction == "forward"
    assert "larger than its dtype can hold" in birth.rewrite
