"""``ppg-jax list``."""

import dataclasses
from typing import Annotated

import tyro

from ppg_jax.cli.options import parse
from ppg_jax.config import available_configs


@dataclasses.dataclass
class _ListCommand:
    """Lists the configurations and suites of environments, or the environments of a suite."""

    suite: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="SUITE", help="list its environments")
    ] = ""


def main(argv: list[str]) -> int:
    suite = parse(_ListCommand, argv, "ppg-jax list").suite
    from ppg_jax.envs import available_envs, suite_ids, suites

    if suite:
        before = "" if suite == "gymnax" else f"{suite}/"
        print("\n".join(f"{before}{name}" for name in suite_ids(suite)))
        return 0
    print("configurations (ppg-jax train NAME):")
    print("\n".join(f"  {name}" for name in available_configs()))
    print("suites of environments (ppg-jax list SUITE):")
    for name, found in sorted(suites().items()):
        state = "installed" if found.installed else f"pip install '{found.install}'"
        print(f"  {name:<12} {state}")
    print("environments of gymnax (--env ID):")
    print("\n".join(f"  {name}" for name in available_envs()))
    return 0
