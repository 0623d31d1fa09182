"""``ppg-jax list``."""

import dataclasses

from ppg_jax.cli.options import parse
from ppg_jax.config import available_configs


@dataclasses.dataclass
class _ListCommand:
    """Lists the available configurations and environments."""


def main(argv: list[str]) -> int:
    parse(_ListCommand, argv, "ppg-jax list")
    from ppg_jax.envs import available_envs

    print("configurations (ppg-jax train NAME):")
    print("\n".join(f"  {name}" for name in available_configs()))
    print("environments (--env ID):")
    print("\n".join(f"  {name}" for name in available_envs()))
    return 0
