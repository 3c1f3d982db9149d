"""How often ``chainrule.diagnose`` is right: planted faults and healthy networks, both halves of the corpus.

python benchmarks/diagnose_accuracy.py              # chainrule's models
python benchmarks/diagnose_accuracy.py --torch      # PyTorch's as well
python benchmarks/diagnose_accuracy.py --show tuned # the cases that went wrong, of the half used for tuning
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.illnesses.score import cases, held_out, run, summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--only", choices=("chainrule", "torch"))
    parser.add_argument("--show", choices=("tuned", "all"))
    parser.add_argument("--cures", action="store_true")
    parser.add_argument("--case")
    args = parser.parse_args()
    libraries = [args.only] if args.only else ["chainrule", "torch"] if args.torch else ["chainrule"]
    start = time.perf_counter()
    results = [run(c, args.cures) for lib in libraries for c in cases(lib) if args.case in (None, c.name)]
    for name, part in (
        ("tuned", [r for r in results if not held_out(r.case.name)]),
        ("held out", [r for r in results if held_out(r.case.name)]),
        ("all", results),
    ):
        s = summary(part)
        shares = "   ".join(f"{key} {s[key]:.3f}" for key in ("precision", "recall", "cause first"))
        counts = f"{s['faults']:>4.0f} faults {s['healthy']:>4.0f} healthy"
        print(f"{name:<9} {counts}   {shares}   false alarms {s['false alarms']:.0f}")
    print(f"{len(results)} diagnoses in {time.perf_counter() - start:.1f} s")
    if args.show or args.case:
        for r in results:
            wrong = r.error or (r.case.expected and not r.right_first) or (not r.case.expected and r.detected)
            if args.case or (wrong and (args.show == "all" or not held_out(r.case.name))):
                print(
                    f"  {r.case.library:<9} {r.case.name:<30} expected {'/'.join(r.case.expected) or 'nothing'}: "
                    f"{r.codes} ({r.hidden}) {r.error[:150]}"
                )
                if args.cures:
                    print("     ", r.cures)


if __name__ == "__main__":
    main()
