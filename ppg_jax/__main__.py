"""``python -m ppg_jax``, and what the command ``ppg-jax`` starts."""

import contextlib
import os
import signal
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from ppg_jax.cli.streams import Forgiving, forgive

OWN_RESULT = ("train", "sweep")
"""Commands whose result stands in a folder; what others print is their result."""


def _has_accelerator() -> bool:
    """Whether JAX has more than its CPU installed."""
    return bool(
        entry_points(group="jax_plugins") or find_spec("jax_plugins") or find_spec("libtpu")
    )


def _stop_at_once(number: int, _frame: Any) -> None:
    """Ends the process: while packages are imported, an exception may be swallowed by them."""
    with contextlib.suppress(OSError):
        os.write(2, b"error: stopped\n")
    os._exit(128 + number)


def _take_signals() -> None:
    """Until a run takes them (``interrupts.StopRequest``), signals to stop end the process."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows knows no SIGHUP
        if number is None:
            continue
        if name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        signal.signal(number, _stop_at_once)


def _look_here_too() -> None:
    """Modules of the current folder can be imported: ``--env my_module:MyEnv``."""
    with contextlib.suppress(OSError):  # the folder may be gone
        here = os.getcwd()
        if here not in sys.path and "" not in sys.path:
            sys.path.append(here)


def main() -> int:
    """Runs the command line."""
    _take_signals()
    out, _ = forgive()
    # Read when jaxlib is loaded, so it stands before that. XLA's warnings are addressed to its own
    # developers. On CPU so are its errors: for every program taken from the cache it names tuning
    # preferences that it takes for missing instructions (github.com/openxla/xla/issues/44565).
    # What goes wrong is raised besides.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if _has_accelerator() else "3")
    _look_here_too()
    from ppg_jax.cli.main import STOPPED
    from ppg_jax.cli.main import main as run

    try:
        code = run()
    except SystemExit as stop:  # --help
        code = stop.code if isinstance(stop.code, int) else 0
    if code == STOPPED:
        # A compiled program may still be running in another thread: nothing waits for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return _code_after_output(code, out)


def _code_after_output(code: int, out: Forgiving) -> int:
    """The exit code, once it is known whether what was printed could be."""
    out.flush()
    if out.failed is None or out.reader_has_gone:
        return code
    asks = {"-h", "--help"} & set(sys.argv)
    lost = bool(asks) or sys.argv[1:2] not in [[name] for name in OWN_RESULT]
    print(
        f"{'error' if lost else 'warning'}: standard output cannot be written: "
        f"{out.failed.strerror}",
        file=sys.stderr,
    )
    return (code or 1) if lost else code


if __name__ == "__main__":
    sys.exit(main())
