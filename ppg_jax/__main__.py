"""``python -m ppg_jax``, and what the command ``ppg-jax`` starts."""

import os
import sys


def main() -> int:
    """Runs the command line."""
    # Read when jaxlib is loaded, so it stands before that. XLA's warnings are addressed to its own
    # developers (one for every program taken from the cache); its errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from ppg_jax.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
