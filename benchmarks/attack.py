"""Attacks runs with damaged and hostile folders, streams and signals, and counts what holds.

    python benchmarks/attack.py                      # everything, some ten minutes
    python benchmarks/attack.py --only damage --few 20

Every case has a time limit. A case holds if no command hangs, dies, shows a traceback or takes much
memory; if nothing outside the folder is touched; if a command that refuses leaves the folder as it
was, with one line that says why; and if what comes out otherwise is what the whole folder gives:
never another state. Exit code 1 if a case does not hold.
"""

import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attacks import damage, hostile, processes
from attacks.victim import Case, Victim, make_run
from common import finish, options

GROUPS: dict[str, Callable[[Path, Path], Iterator[Case]]] = {
    "damage": damage.cases,
    "hostile": hostile.cases,
    "streams": processes.streams,
    "signals": processes.signals,
}
"""By name: a whole run's folder and a place for copies to the cases."""


def run_group(name: str, whole: Path, place: Path, few: int | None, seed: int) -> dict[str, Any]:
    """Runs the cases of a group; how many there were, and which did not hold."""
    cases = list(GROUPS[name](whole, place))
    if few is not None and few < len(cases):
        cases = random.Random(seed).sample(cases, few)
    failed = {}
    with contextlib.closing(Victim()) as victim:
        for number, case in enumerate(cases):
            began = time.monotonic()
            wrong = case.run(victim)
            seconds = time.monotonic() - began
            mark = "holds" if wrong is None else f"DOES NOT HOLD: {wrong}"
            print(f"{name} {number + 1}/{len(cases)} {case.name}: {mark} ({seconds:.1f} s)",
                  file=sys.stderr)  # fmt: skip
            if wrong is not None:
                failed[case.name] = wrong
    return {"cases": len(cases), "held": len(cases) - len(failed), "failed": failed}


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--few", type=int, help="so many cases of each group, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of that draw")
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    report: dict[str, Any] = {}

    def measure() -> dict[str, Any]:
        place = Path(tempfile.mkdtemp(prefix="attack-"))
        try:
            whole = make_run(place / "whole")
            for name in args.only:
                report[name] = run_group(name, whole, place, args.few, args.seed)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return report

    code = finish(args, measure)
    held, cases = (sum(group[key] for group in report.values()) for key in ("held", "cases"))
    print(f"{held} of {cases} cases hold", file=sys.stderr)
    return code or (0 if held == cases else 1)


if __name__ == "__main__":
    sys.exit(main())
