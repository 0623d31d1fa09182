"""``python -m ppg_jax``, and what the command ``ppg-jax`` starts."""

import os
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec


def _has_accelerator() -> bool:
    """Whether JAX has more than its CPU installed."""
    return bool(
        entry_points(group="jax_plugins") or find_spec("jax_plugins") or find_spec("libtpu")
    )


def main() -> int:
    """Runs the command line."""
    # Read when jaxlib is loaded, so it stands before that. XLA's warnings are addressed to its own
    # developers. On CPU so are its errors: for every program taken from the cache it names tuning
    # preferences that it takes for missing instructions (github.com/openxla/xla/issues/44565).
    # What goes wrong is raised besides.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if _has_accelerator() else "3")
    from ppg_jax.cli import STOPPED
    from ppg_jax.cli import main as run

    code = run()
    if code == STOPPED:
        # A compiled program may still be running in another thread: nothing waits for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
