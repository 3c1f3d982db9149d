"""Search the edits for one that makes the gradient right, then for a second mistake, and a third."""

from __future__ import annotations

import ast
import contextlib
import io
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..diagnosis.evidence import Evidence
from ..diagnosis.factors import constant_ratio
from ..diagnosis.hypothesis import Hypothesis, Line
from ..measure import quiet
from ..problem import Arrays
from .edits import Edit, statements
from .guard import Guard
from .scope import Scope, as_array
from .small import small_edits
from .source import RETURNED, FunctionSource, final_locals, running_as, user_functions
from .whole import statement_edits, whole_edits

__all__ = ["find_repairs"]

_SECONDS = 6.0  # of processor time: a busy machine must not change the diagnosis


@dataclass(slots=True)
class _Fix:
    edit: Edit
    source: FunctionSource
    fixed: tuple[str, ...]
    line: Line


def find_repairs(ev: Evidence, seconds: float = _SECONDS) -> list[Hypothesis]:
    """Verified hypotheses: single edits of the gradient's source after which (more of) the gradient is right."""
    if not ev.problem.functions or ev.problem.regrad is None:
        return []
    forward = {f for g in ev.problem.forward_functions for f in user_functions(g)}
    functions = [f for g in ev.problem.functions for f in user_functions(g) if f not in forward]
    sources = [s for s in (FunctionSource(f) for f in functions) if s.tree is not None]
    if not sources:
        return []
    search = _Search(ev, sources, time.process_time() + seconds)
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        bad = set(ev.bad)
        search.guard = Guard([s.function for s in sources], search.gradient)
        try:
            found = search.all_mistakes(bad)
        finally:
            search.restore()
            search.guard.close()
    return found


class _Search:
    def __init__(self, ev: Evidence, sources: list[FunctionSource], deadline: float) -> None:
        self.ev = ev
        self.sources = sources
        self.deadline = deadline
        self.point = {k: v.copy() for k, v in ev.problem.point.items()}
        self.kept: list[Edit] = []
        self.codes = [(s.function, s.function.__code__) for s in sources]
        self.current = ev.analytic
        self.guard: Guard | None = None

    def all_mistakes(self, bad: set[str]) -> list[Hypothesis]:
        """One repair after the other, up to three."""
        found: list[Hypothesis] = []
        for _ in range(3):
            fixes = self.run(bad)
            if not fixes:
                break
            found += [_hypothesis(f, len(bad)) for f in fixes[: 3 if not found else 1]]
            bad = bad - set(fixes[0].fixed)
            if not bad:
                break
            self.keep(fixes[0])
        return found

    def gradient(self) -> Arrays | None:
        assert self.ev.problem.regrad is not None
        try:
            out = self.ev.problem.regrad(self.point)
            return {k: np.asarray(v, dtype=float) for k, v in out.items()}
        except Exception:
            return None
        finally:
            if self.guard is not None:
                self.guard.restore()

    def keep(self, fix: _Fix) -> None:
        """Leave a found edit in place while the next mistake is looked for."""
        fix.edit.apply()
        code = fix.source.compile()
        if code is not None:
            fix.source.function.__code__ = code
        self.kept.append(fix.edit)
        self.current = self.gradient() or self.current

    def restore(self) -> None:
        for edit in reversed(self.kept):
            edit.undo()
        for function, code in self.codes:
            function.__code__ = code

    def run(self, bad: set[str]) -> list[_Fix]:
        """The edits that make some of the ``bad`` parameters right and none wrong, best first."""
        plan = sorted(self._edits(bad), key=lambda item: item[0])
        fixes: list[_Fix] = []
        bound = np.inf
        for rank, edit, source in plan:
            if time.process_time() > self.deadline or rank > bound or len(fixes) >= 8:
                break
            fixed = self._try(edit, source, bad)
            if fixed:
                fixes.append(_Fix(edit, source, fixed, self._line(edit, source)))
                if len(fixed) == len(bad):
                    bound = min(bound, rank + 0.45)
        fixes.sort(key=lambda f: (-len(f.fixed), f.edit.rank))
        return fixes

    def _try(self, edit: Edit, source: FunctionSource, bad: set[str]) -> tuple[str, ...]:
        edit.apply()
        try:
            code = source.compile()
        except (RecursionError, AttributeError):
            code = None
        finally:
            edit.undo()
        if code is None:
            return ()
        with running_as(source.function, code):
            g = self.gradient()
        if g is None:
            return ()
        for name, old in self.current.items():
            if name not in bad and not (np.array_equal(g[name], old) or self.ev.same(name, g[name])):
                return ()
        return tuple(k for k in self.ev.problem.point if k in bad and self.ev.same(k, g[k]))

    def _edits(self, bad: set[str]) -> Iterator[tuple[float, Edit, FunctionSource]]:
        values = final_locals([s.function for s in self.sources], self.gradient)
        factors = self._factors(bad)
        for s in self.sources:
            assert s.tree is not None
            module = next(
                (k for k, v in s.function.__globals__.items() if v is np and k in s.function.__code__.co_names), "np"
            )
            local = values.get(id(s.function), {})
            outer = {
                k: v
                for k, v in s.function.__globals__.items()
                if k in s.function.__code__.co_names and not isinstance(v, types.ModuleType)
            }
            outer.update(
                {
                    v: c.cell_contents
                    for v, c in zip(s.function.__code__.co_freevars, s.function.__closure__ or (), strict=False)
                    if _filled(c)
                }
            )
            result = as_array(local.get(RETURNED))
            scope = Scope({**outer, **local}, module)
            assigned: set[str] = set()
            for stmt, site in list(statements(s.tree)):
                names = _targets(stmt)
                influence = self._influence(stmt, s, bad)
                seen = bool(names & assigned)
                assigned |= names
                if influence is not None and not (influence & bad):
                    continue
                away = 0.0 if influence is None or influence <= bad else 0.6
                value = as_array(local.get(next(iter(names), ""), None))
                if value is None and isinstance(stmt, ast.Return):
                    value = result
                edits = [
                    *statement_edits(stmt, site, scope, seen),
                    *small_edits(stmt, scope),
                    *whole_edits(stmt, scope, value, factors),
                ]
                for edit in edits:
                    yield edit.rank + away, edit, s

    def _influence(self, stmt: ast.stmt, source: FunctionSource, bad: set[str]) -> set[str] | None:
        """Which parameters' gradients change when this statement's value does; None when that cannot be told."""
        if not isinstance(stmt, (ast.Assign, ast.AugAssign)) or isinstance(
            stmt.value, (ast.Tuple, ast.Dict, ast.List, ast.Compare)
        ):
            return None
        if isinstance(stmt, ast.Assign) and isinstance(stmt.targets[0], ast.Tuple):
            return None
        old = stmt.value
        stmt.value = ast.BinOp(ast.BinOp(old, ast.Mult(), ast.Constant(1.37)), ast.Add(), ast.Constant(0.01))
        try:
            code = source.compile()
        finally:
            stmt.value = old
        if code is None:
            return None
        with running_as(source.function, code):
            g = self.gradient()
        if g is None:
            return None
        changed = {k for k, v in g.items() if not np.array_equal(v, self.current[k], equal_nan=True)}
        return changed or None

    def _factors(self, bad: set[str]) -> list[tuple[str, str]]:
        """Factors worth trying: those that the ratios suggest, then sizes of the data."""
        ev = self.ev
        out: list[tuple[str, str]] = []
        for name in bad:
            c = constant_ratio(ev, name)
            if c is not None and abs(c - 1) > 1e-9 and abs(c + 1) > 1e-9:
                kind = (
                    "sum-mean"
                    if any(
                        np.isclose(abs(c), x, rtol=1e-5)
                        for n in ev.problem.dims
                        if n > 2
                        for x in (n, 1 / n, n / 2, 2 / n)
                    )
                    else "factor"
                )
                inverse = 1 / c
                near = next((n for n in [2, 4, 3, 8, *ev.problem.dims] if np.isclose(abs(c), n, rtol=1e-5)), None)
                back = next((n for n in [2, 4, 3, 8, *ev.problem.dims] if np.isclose(abs(c), 1 / n, rtol=1e-5)), None)
                sign = "-" if c < 0 else ""
                if ev.known(name).sum() < 3 and not (near or back):
                    continue
                text = f"/ {sign}{near}" if near else f"* {sign}{back}" if back else f"* {float(f'{inverse:.9g}')!r}"
                out.append((text, kind))
        for n in list(ev.problem.dims)[:5]:
            out += [(f"/ {n}", "sum-mean" if n != 2 else "factor"), (f"* {n}", "sum-mean" if n != 2 else "factor")]
        out += [("* 2", "factor"), ("/ 2", "factor")]
        return list(dict.fromkeys(out))

    def _line(self, edit: Edit, source: FunctionSource) -> Line:
        stmt = edit.statement
        edit.apply()
        try:
            new = edit.new if isinstance(edit.site.node, ast.stmt) else stmt
            text = (
                ast.unparse(ast.fix_missing_locations(new)) if not isinstance(new, ast.Pass) else "(remove this line)"
            )
        finally:
            edit.undo()
        node: Any = edit.site.node
        number = getattr(node, "lineno", None) or stmt.lineno
        if isinstance(stmt, ast.For):
            text = text.split("\n", 1)[0]
        old = source.line(number)
        if stmt.end_lineno != stmt.lineno:
            # A statement over several lines: show the part that changes.
            text = ast.unparse(ast.fix_missing_locations(edit.new))
            old = ast.unparse(edit.site.node)
        elif source.tree is not None and source.tree.name == "_lambda":
            text = f"lambda …: {text.removeprefix('return ')}"
        return Line(source.filename, number, old, text)


def _targets(stmt: ast.stmt) -> set[str]:
    targets = getattr(stmt, "targets", None) or (
        [stmt.target] if isinstance(stmt, (ast.AugAssign, ast.AnnAssign)) else []
    )
    out: set[str] = set()
    for t in targets:
        for n in ast.walk(t):
            if isinstance(n, ast.Subscript):
                out.add(ast.unparse(n))
        if isinstance(t, ast.Name):
            out.add(t.id)
    return out


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _hypothesis(fix: _Fix, wrong: int) -> Hypothesis:
    line = fix.line
    whole = len(fix.fixed) == wrong
    right = "the whole gradient is right" if whole else f"the gradient of {', '.join(fix.fixed)} is right"
    evidence = f"tried out: with this change {right}"
    return Hypothesis(
        fix.edit.kind,
        fix.edit.title,
        evidence,
        f"{line}: change `{line.source}` to `{line.replacement}`",
        fix.fixed,
        1.5 - 0.1 * fix.edit.rank,
        line,
        True,
    )
