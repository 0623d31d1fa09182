"""Seconds to trace and to compile a configuration's whole run, each time in a fresh process.

    python benchmarks/compile_time.py minatar/breakout cartpole --repeats 5

``default`` is ``jax.jit(make_train(config))`` as anyone writes it; ``runner`` compiles the same
program with the options that ``ppg_jax.run`` and the command line use. Both in turn; medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from throughput import environment


def measure(name: str, how: str) -> dict:
    """Traces and compiles once, in this process."""
    import jax

    from ppg_jax.files import load_config
    from ppg_jax.parallel import compiler_options
    from ppg_jax.train import make_train

    train, key = make_train(load_config(name)), jax.random.key(0)
    options = compiler_options() if how == "runner" else None
    began = time.perf_counter()
    lowered = jax.jit(train, compiler_options=options).lower(key)
    traced = time.perf_counter()
    lowered.compile()
    return {"trace": traced - began, "compile": time.perf_counter() - traced}


def in_fresh_process(name: str, how: str) -> dict:
    """``measure`` where nothing has been traced or compiled before."""
    command = [sys.executable, __file__, name, "--once", how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", default=["minatar/breakout", "cartpole"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--once", choices=["default", "runner"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the JSON here, not only to the screen")
    args = parser.parse_args()
    if args.once:
        print(json.dumps(measure(args.configs[0], args.once)))
        return 0
    rows = []
    for name in args.configs:
        runs: dict[str, list[dict]] = {"default": [], "runner": []}
        for _ in range(args.repeats):
            for how, found in runs.items():
                found.append(in_fresh_process(name, how))
        for how, found in runs.items():
            row = {"config": name, "how": how, "repeats": args.repeats}
            for part in ("trace", "compile"):
                row[f"{part}_seconds"] = round(statistics.median(r[part] for r in found), 2)
            rows.append(row)
    text = json.dumps({**environment(), "results": rows}, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
