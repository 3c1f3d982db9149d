"""Score the mutation corpus: ``python -m benchmarks.check_accuracy [--part tuned|held-out] [--verbose]``."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from typing import Any

from tests.mutations.corpus import KINDS, Case, cases
from tests.mutations.networks import NETWORKS, build
from tests.mutations.rules import RuleCase, rule_cases

import chainrule.check as check
from chainrule.check.run import run
from chainrule.check.structure import WrongGradient


def score(case: Case) -> dict[str, Any]:
    """Detected? Right diagnosis first?"""
    start = time.perf_counter()
    try:
        report = check.check(case.network.f, case.network.point, grad=case.grad)
    except WrongGradient as error:
        first, detected, verified = error.kind, True, False
        title = str(error)
    else:
        detected = report.verdict is check.Verdict.FAIL
        top = report.hypotheses[0] if report.hypotheses else None
        first, title, verified = (top.kind, f"{top.title} | {top.fix}", top.verified) if top else ("none", "", False)
    return {
        "case": case.name,
        "kind": case.operator.name,
        "network": case.network.name,
        "line": case.line,
        "detected": detected,
        "first": first,
        "right": first in case.operator.expects,
        "verified": verified,
        "title": title,
        "seconds": time.perf_counter() - start,
        "part": "held out" if case.held_out else "tuned",
    }


def score_rule(case: RuleCase) -> dict[str, Any] | None:
    """The same for a wrong rule of one of the library's ops; None when the edit changes nothing."""
    start = time.perf_counter()
    with case.running():
        problem = case.problem()
        if problem is None:
            return None
        report = run(problem)
    top = report.hypotheses[0] if report.hypotheses else None
    first = top.kind if top else "none"
    return {
        "case": case.name,
        "kind": case.operator.name,
        "network": case.op,
        "line": case.line,
        "detected": report.verdict is check.Verdict.FAIL,
        "first": first,
        "right": first in case.operator.expects,
        "verified": bool(top and top.verified),
        "title": f"{top.title} | {top.fix}" if top else "",
        "seconds": time.perf_counter() - start,
        "part": "rules held out" if case.held_out else "rules tuned",
    }


def accusations() -> tuple[int, list[str]]:
    """Right programs, at scales of the loss and of the inputs from 1e-8 to 1e8: the number checked, and
    those not passed.
    """
    wrong, count = [], 0
    for name in NETWORKS:
        for seed in range(3):
            n = build(name, seed)
            for scale in (1.0, 1e-8, 1e8):
                count += 1
                report = check.check(
                    lambda p, n=n, s=scale: s * n.f(p),
                    n.point,
                    grad=lambda p, n=n, s=scale: {k: s * v for k, v in n.grad(p).items()},
                )
                if report.verdict is not check.Verdict.PASS:
                    wrong.append(f"{name} seed {seed} loss × {scale:g}: {report.headline()}")
    return count, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=["tuned", "held-out"])
    parser.add_argument("--rules", action="store_true", help="mistakes in the rules of the library's ops only")
    parser.add_argument("--verbose", action="store_true", help="print each case that was missed or misnamed")
    parser.add_argument("--json", metavar="FILE", help="write every case there")
    args = parser.parse_args()
    part = {"tuned": "tuned", "held-out": "held out", None: None}[args.part]
    rows = [] if args.rules else [score(c) for c in cases(part)]
    if args.rules or part is None:
        rows += [row for row in map(score_rule, rule_cases()) if row is not None]
    for p in ("tuned", "held out", "rules tuned", "rules held out"):
        some = [r for r in rows if r["part"] == p]
        if some:
            found, right, proved = (sum(r[k] for r in some) for k in ("detected", "right", "verified"))
            n = len(some)
            print(
                f"{p:<14} {n:4d} cases, {len({r['kind'] for r in some})} kinds, "
                f"{len({r['network'] for r in some})} programs: detected {found}/{n} "
                f"({found / n:.1%}), right diagnosis first {right}/{n} ({right / n:.1%}), mended line "
                f"verified {proved}/{n} ({proved / n:.1%}); "
                f"mean {sum(r['seconds'] for r in some) / n:.2f} s, worst {max(r['seconds'] for r in some):.1f} s"
            )
    if args.verbose:
        for r in rows:
            if not (r["detected"] and r["right"]):
                print(
                    f"  {'MISSED' if not r['detected'] else 'named'} {r['case']}: `{r['line']}` → "
                    f"{r['first']}: {r['title'][:180]}"
                )
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for r in rows:
        by_kind[r["kind"]].append(r["right"])
    weak = {k: v for k, v in by_kind.items() if sum(v) < len(v)}
    print("kinds not always named:", ", ".join(f"{k} {sum(v)}/{len(v)}" for k, v in weak.items()) or "none")
    print(f"kinds defined: {len(KINDS)}; kinds that apply: {len(by_kind)}")
    count, wrong = (0, []) if args.rules else accusations()
    print(f"right programs: {count - len(wrong)}/{count} pass")
    for w in wrong:
        print("  ", w)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)
    return 0 if not wrong and all(r["detected"] for r in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
