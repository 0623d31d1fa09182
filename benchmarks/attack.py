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
from common import REPORT, finish, options

GROUPS: dict[str, Callable[[Path, Path], Iterator[Case]]] = {
    "damage": damage.cases,
    "hostile": hostile.cases,
    "streams": processes.streams,
    "signals": processes.signals,
}
"""By name: a whole run's folder and a place for copies to the cases."""


def chosen(name: str, whole: Path, place: Path, args: Any) -> list[Case]:
    """The cases of a group that are to be tried."""
    cases = list(GROUPS[name](whole, place))
    if args.few is None or args.few >= len(cases):
        return cases
    return random.Random(args.seed).sample(cases, args.few)


def run_group(name: str, cases: list[Case], victim: Victim) -> dict[str, Any]:
    """Runs the cases of a group; how many there were, and which did not hold."""
    failed = {}
    for number, case in enumerate(cases):
        began = time.monotonic()
        wrong = case.run(victim)
        seconds = time.monotonic() - began
        mark = "holds" if wrong is None else f"DOES NOT HOLD: {wrong}"
        place = f"{name} {number + 1}/{len(cases)}"
        print(f"{place} {case.name}: {mark} ({seconds:.1f} s)", file=sys.stderr)
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
            with contextlib.closing(Victim()) as victim:
                for name in args.only:
                    report[name] = run_group(name, chosen(name, whole, place, args), victim)
                    REPORT.add({name: report[name]})
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return report

    code = finish(args, measure)
    held, cases = (sum(group[key] for group in report.values()) for key in ("held", "cases"))
    print(f"{held} of {cases} cases hold", file=sys.stderr)
    return code or (0 if held == cases else 1)


if __name__ == "__main__":
    sys.exit(main())
