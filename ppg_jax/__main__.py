"""Entry point of ``python -m ppg_jax`` and of the command ``ppg-jax``.

Signals, standard streams and environment variables are set up here, before JAX is imported.
"""

import contextlib
import os
import signal
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from ppg_jax.cli.streams import Forgiving, forgive

RESULT_IN_FOLDER = ("train", "sweep")
"""Commands that write their result to a folder. The other commands print it."""


def _has_accelerator() -> bool:
    """Whether a JAX backend other than the CPU is installed."""
    return bool(
        entry_points(group="jax_plugins") or find_spec("jax_plugins") or find_spec("libtpu")
    )


def _stop_at_once(number: int, _frame: Any) -> None:
    """Ends the process. An exception would not: a package that is being imported may catch it."""
    with contextlib.suppress(OSError):
        os.write(2, b"error: stopped\n")
    os._exit(128 + number)


def _take_signals() -> None:
    """Makes stop signals end the process, until a run handles them (``interrupts.StopRequest``)."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is None:
            continue
        if name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
            continue  # started with nohup
        signal.signal(number, _stop_at_once)


def _add_current_folder_to_path() -> None:
    """Makes modules of the current folder importable, for ``--env my_module:MyEnv``."""
    with contextlib.suppress(OSError):  # the folder may have been removed
        here = os.getcwd()
        if here not in sys.path and "" not in sys.path:
            sys.path.append(here)


def main() -> int:
    """Runs the command line and returns the exit code."""
    _take_signals()
    out, _ = forgive()
    # jaxlib reads this variable when it is loaded, so it must be set before. XLA's warnings are for
    # its own developers. On CPU its error messages are too: for every program from the cache, XLA
    # reports tuning preferences as missing instructions (github.com/openxla/xla/issues/44565).
    # Real errors are raised as exceptions as well.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if _has_accelerator() else "3")
    _add_current_folder_to_path()
    from ppg_jax.cli.main import GONE, STOPPED
    from ppg_jax.cli.main import main as run

    try:
        code = run()
    except SystemExit as stop:  # --help
        code = stop.code if isinstance(stop.code, int) else 0
    if code in (STOPPED, GONE):
        # A compiled program may still run in another thread. The process does not wait for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return _final_exit_code(code, out)


def _final_exit_code(code: int, out: Forgiving) -> int:
    """The exit code, which also depends on whether the output could be written."""
    out.flush()
    if out.failed is None or out.reader_has_gone:
        return code
    asks = {"-h", "--help"} & set(sys.argv)
    lost = bool(asks) or sys.argv[1:2] not in [[name] for name in RESULT_IN_FOLDER]
    print(
        f"{'error' if lost else 'warning'}: standard output cannot be written: "
        f"{out.failed.strerror}",
        file=sys.stderr,
    )
    return (code or 1) if lost else code


if __name__ == "__main__":
    sys.exit(main())
