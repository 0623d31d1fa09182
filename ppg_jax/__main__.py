"""``python -m ppg_jax``, and what the command ``ppg-jax`` starts."""

import os
import sys


def main() -> int:
    """Runs the command line."""
    # Read when jaxlib is loaded, so it stands before that. XLA's warnings are addressed to its own
    # developers (one for every program taken from the cache); its errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
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
