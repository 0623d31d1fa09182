"""``python -m ppg_jax`` is ``ppg-jax``."""

import sys

from ppg_jax.cli import main

sys.exit(main())
