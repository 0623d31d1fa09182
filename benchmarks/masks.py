"""What action masks are worth: returns of Jumanji's games with their masks and without.

    python benchmarks/masks.py jumanji/snake jumanji/game_2048 --seeds 3

Without: the same environment, but its mask is dropped before the policy sees it, and an illegal
action goes to the suite. (Snake ends then; 2048 does nothing.) Both have the same seeds and steps.
``masked_minus_unmasked`` is the difference of the mean returns in the last tenth of a run, with a
95% bootstrap interval over seeds.
"""

import sys
from typing import Any

from common import finish, options
from learning import difference, summarize
from report import REPORT, whole
from rich.console import Console

from ppg_jax.config.yaml_files import load_config
from ppg_jax.envs import Suite, register_suite
from ppg_jax.envs.suites import jumanji
from ppg_jax.runs.run import run

UNMASKED = "unmasked"


class Unmasked(jumanji.Jumanji):
    """An environment of Jumanji that does not say which actions are legal."""

    def __init__(self, env_id: str, env_params: Any, env_kwargs: Any) -> None:
        super().__init__(env_id, env_params, env_kwargs)
        self.name, self.mask_key = f"{env_id}, {UNMASKED}", None

    def reset(self, key: Any) -> tuple[Any, Any]:
        obs, state = super().reset(key)
        return without_mask(obs), state

    def step(self, key: Any, state: Any, action: Any) -> Any:
        result = super().step(key, state, action)
        return result._replace(obs=without_mask(result.obs))


def without_mask(obs: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in obs.items() if name != jumanji.MASK}


SUITE = Suite(UNMASKED, "jumanji", Unmasked, jumanji.ids, jumanji.SUITE.install)


def measure(args: Any) -> list[dict]:
    register_suite(SUITE)
    console, rows = Console(stderr=True), []
    for name in args.configs:
        masked = load_config(name, seeds=args.seeds)
        if args.total_timesteps:
            masked = masked.replace(total_timesteps=args.total_timesteps)
        unmasked = masked.replace(env=f"{UNMASKED}/{masked.env.partition('/')[2]}")
        finals = []
        for masks, config in ((True, masked), (False, unmasked)):
            result = whole(run(config, console=console))
            finals.append(result.final_returns)
            rows.append(REPORT.add(summarize(name, result) | {"masks": masks}))
        gap = difference(*finals)
        rows.append(REPORT.add({"config": name, "masked_minus_unmasked": gap}))
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__)
    parser.add_argument("configs", nargs="*", default=["jumanji/snake", "jumanji/game_2048"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--total-timesteps", type=int, help="instead of the configuration's own")
    args = parser.parse_args(argv)
    return finish(args, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
