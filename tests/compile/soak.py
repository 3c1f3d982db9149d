"""Random programs, as many as time allows: ``python -m tests.compile.soak --minutes 10 --seed 0``.

Each program runs between guard pages, with canaries between the arena's buffers (a third of them unfused, too; an
eighth with LLVM's optimisation, bit for bit), in a process of its own: a crash is reported with its program. The report
has the number of programs, the ops that they used, and the largest error beside eager's own (see ``agree``).
"""

import argparse
import faulthandler
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tests.compile.agree import Found, Refused, again_with_other_data, run_case, shrink
from tests.compile.generate import OPS, Case, random_case
from tests.compile.guarded import available


def work(seed, until, log):
    """In the child: programs until the time is over; what is about to run is written down first."""
    faulthandler.enable()
    rng = np.random.default_rng(seed)
    total, count, ties, failures = Found(), 0, 0, []

    def say():
        print(
            json.dumps([count, total.kinds, sorted(total.ops), total.factor, total.relative, ties, failures]),
            flush=True,
        )

    while time.time() < until and len(failures) < 3:
        case = random_case(rng)
        Path(log).write_text(repr(case))
        count += 1
        try:
            run_case(case, total, (True,) if count % 3 else (True, False), optimised=count % 8 == 0)
        except Refused:
            count -= 1
        except Exception:
            if again_with_other_data(case):
                small, error = shrink(case)
                failures.append(f"{type(error).__name__}: {error}\n    {small!r}")
            else:
                ties += 1
        if count % 20 == 0 or failures:
            say()
    say()


def main(minutes, seed):
    os.environ["CHAINRULE_CACHE"] = ""
    until = time.time() + 60 * minutes
    count, kinds, ops, factor, relative, ties, failures = 0, {}, set(), 0.0, 0.0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        log = str(Path(folder) / "case")
        while time.time() < until - 1 and len(failures) < 6:
            child = subprocess.run(
                [sys.executable, "-m", "tests.compile.soak", "--child", str(until), "--seed", str(seed), "--log", log],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            lines = [line for line in child.stdout.splitlines() if line.startswith("[")]
            if lines:
                n, more, names, a, b, t, bad = json.loads(lines[-1])
                count, factor, relative, ties = count + n, max(factor, a), max(relative, b), ties + t
                failures += bad
                ops |= set(names)
                for k, v in more.items():
                    kinds[k] = kinds.get(k, 0) + v
            if child.returncode:
                what = f"crashed with {child.returncode}"
                failures.append(f"{what}\n    {Path(log).read_text()}\n{child.stderr[-2000:]}")
            seed += 1
    print(f"{count} programs; {len(kinds)} kinds of steps, {sum(kinds.values())} uses; guard pages: {available()}")
    print(f"{len(ops)} kinds of registry ops; not seen: {' '.join(sorted(set(OPS) - ops)) or 'none'}")
    print(f"largest error: {relative:.1e} of the largest entry in float32; {factor:.1f} times eager's own")
    print(f"{ties} programs differed for one set of numbers only (a comparison near a tie)")
    print("  ".join(f"{k} {v}" for k, v in sorted(kinds.items())))
    for text in failures:
        print("FAILED", text)
    return 1 if failures else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", help="run one printed case")
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--log", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(run_case(eval(options.case, {"Case": Case})))  # noqa: S307 - a developer's own input
    elif options.child:
        work(options.seed, options.child, options.log)
    else:
        sys.exit(main(options.minutes, options.seed))
