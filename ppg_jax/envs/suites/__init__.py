"""Environment libraries (suites), one file per library.

Each file makes the environments of its library a ``SuiteEnvironment`` and ends with a ``Suite``. No
other folder imports these libraries, and a file imports its library only inside functions: most
libraries are not installed, and importing them takes seconds.
"""

from ppg_jax.envs.suites import (
    brax,
    craftax,
    gymnax,
    jumanji,
    navix,
    pgx,
    playground,
    procgen,
    xminigrid,
)

SUITES = [
    suite.SUITE
    for suite in (brax, craftax, gymnax, jumanji, navix, pgx, playground, procgen, xminigrid)
]
"""All built-in suites. To add one, write its file and name it here."""
