"""XLand-MiniGrid (Nikulin et al. 2023, arXiv:2312.12044): grid worlds with goals and rules.

A ``MiniGrid-...`` id has its goal built in. An ``XLand-...`` id needs a ruleset: a goal, rules that
turn objects into others, and the objects at the start. It is one of these:

- ``EXAMPLE``, by default. (The suite's own default has no goal, and so never a reward.)
- What ``env_params`` say in ``goal``, ``rules`` and ``init_tiles``, as in ``EXAMPLE``.
- A new one for each episode, or always the same one, of a benchmark of the suite
  (``env_kwargs.benchmark``, ``env_kwargs.ruleset_id``) whose file is already on this machine.
"""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import ConfigError, FrozenMapping, did_you_mean
from ppg_jax.envs.spaces import Discrete, MultiDiscrete
from ppg_jax.envs.suite import (
    NO_LIMIT,
    TIME_LIMIT,
    Suite,
    SuiteEnvironment,
    SuiteStep,
    check_names,
    take_time_limit,
)

SIZES = ("height", "width", "view_size")
RULESET = ("goal", "rules", "init_tiles")
BENCHMARK = ("benchmark", "ruleset_id")
EXAMPLE = FrozenMapping(
    # Put the pyramid beside the square, which makes a red ball; put that beside the green ball.
    goal=("TileNear", ("ball", "red"), ("ball", "green")),
    rules=(("TileNear", ("pyramid", "blue"), ("square", "purple"), ("ball", "red")),),
    init_tiles=(("pyramid", "blue"), ("square", "purple"), ("ball", "green"), ("ball", "yellow")),
)
"""Ruleset of XLand ids if the configuration names none, after the paper's example.

A goal or a rule is the name of the suite's class, without ``Goal`` or ``Rule``, and its arguments:
tiles as (shape, colour), positions as (row, column).
"""
TILE_PIXELS = 32
"""Pixels of a tile's side in a picture."""


class XMiniGrid(SuiteEnvironment):
    """An environment of XLand-MiniGrid. Observations are tile and colour ids, uint8 ``[V, V, 2]``.

    The reward for reaching the goal falls with the number of steps, relative to the time limit. So
    it depends on the limit; without a limit it is always 1.
    """

    def __init__(self, env_id: str, env_params: Mapping[str, Any], env_kwargs: Mapping[str, Any]):
        import xminigrid
        from xminigrid.core.constants import NUM_COLORS, NUM_TILES

        self.name = env_id
        self._env, params = xminigrid.make(env_id)
        has_rules = hasattr(params, "ruleset")
        if "max_steps" in env_params:  # the suite's own name of the limit
            env_params = {TIME_LIMIT: env_params["max_steps"], **env_params}
        limit, rest = take_time_limit(env_params, params.max_steps)
        names = (TIME_LIMIT, "max_steps", *SIZES, *(RULESET if has_rules else ()))
        check_names("env_params", rest, names, env_id)
        check_names("env_kwargs", env_kwargs, BENCHMARK if has_rules else (), env_id)
        sizes = {name: _size(name, rest[name]) for name in SIZES if name in rest}
        self._params = params.replace(max_steps=limit or NO_LIMIT, **sizes)
        self._benchmark: Any = None  # if every episode has a new ruleset
        if has_rules:
            self._choose_rules({name: rest[name] for name in RULESET if name in rest}, env_kwargs)
        self.max_episode_steps = limit
        self.action_space = Discrete(self._env.num_actions(self._params))
        shape = self._env.observation_shape(self._params)
        self.observation_space = MultiDiscrete(
            np.broadcast_to(np.array([NUM_TILES, NUM_COLORS]), shape), jnp.uint8
        )

    def _choose_rules(self, given: Mapping[str, Any], env_kwargs: Mapping[str, Any]) -> None:
        if not env_kwargs:
            ruleset = _ruleset({**EXAMPLE, **given})
        elif given or "benchmark" not in env_kwargs:
            raise ConfigError(
                f"env_kwargs.{next(iter(env_kwargs))}: a ruleset of a benchmark needs "
                f"env_kwargs.benchmark, and no {', '.join(RULESET)} in env_params"
            )
        else:
            self._benchmark = _load_benchmark(env_kwargs["benchmark"])
            number, last = env_kwargs.get("ruleset_id"), self._benchmark.num_rulesets() - 1
            if number is None:
                return
            if not isinstance(number, int) or not 0 <= number <= last:
                raise ConfigError(
                    f"env_kwargs.ruleset_id: {number!r} is invalid; it should be 0 to {last}"
                )
            ruleset, self._benchmark = self._benchmark.get_ruleset(number), None
        self._params = self._params.replace(ruleset=ruleset)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Any]:
        """Begins an episode and returns ``(obs, state)``."""
        params = self._params
        if self._benchmark is not None:
            ruleset_key, key = jax.random.split(key)
            params = params.replace(ruleset=self._benchmark.sample_ruleset(ruleset_key))
        first = self._env.reset(params, key)
        return first.observation, first.state

    def step(self, key: chex.PRNGKey, state: Any, action: Any) -> SuiteStep:
        """Takes one step. All randomness is in the state, and so is the ruleset."""
        from xminigrid.types import StepType, TimeStep

        before = TimeStep(
            state=state,
            step_type=StepType.MID,
            reward=jnp.float32(0.0),
            discount=jnp.float32(1.0),
            observation=None,
        )
        after = self._env.step(self._params, before, action)
        return SuiteStep(after.observation, after.state, after.reward, after.discount == 0)

    def frame(self, state: Any) -> np.ndarray:
        """A picture of the grid, uint8 ``[height, width, 3]``."""
        from xminigrid.rendering.rgb_render import render

        # Arrays of JAX would be read number by number, which takes a hundred times as long.
        agent = jax.tree.map(np.asarray, state.agent)
        return render(np.asarray(state.grid), agent, self._params.view_size, TILE_PIXELS)


def _size(name: str, value: Any) -> int:
    odd = name == "view_size"  # the agent sees equally far to both sides
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < 3 or (odd and value % 2 == 0):
        wanted = "an odd number" if odd else "a whole number"
        raise ConfigError(f"env_params.{name}: {value!r} is invalid; it should be {wanted} from 3")
    return value


def _ruleset(given: Mapping[str, Any]) -> Any:
    """A ruleset as the suite encodes it."""
    from xminigrid.core import goals, rules
    from xminigrid.types import RuleSet

    return RuleSet(
        goal=_encoded("goal", given["goal"], goals, "Goal"),
        rules=jnp.stack([_encoded("rules", x, rules, "Rule") for x in given["rules"] or ["Empty"]]),
        init_tiles=jnp.array([_pair("init_tiles", x) for x in given["init_tiles"]], jnp.uint8),
    )


def _encoded(name: str, given: Any, module: Any, kind: str) -> chex.Array:
    """The suite's encoding of a goal or a rule, such as ``(AgentHold, (ball, red))``."""
    which, *arguments = (given,) if isinstance(given, str) else given
    known = [x.removesuffix(kind) for x in vars(module) if x.endswith(kind) and x != f"Base{kind}"]
    if which not in known:
        raise ConfigError(
            f"env_params.{name}: {which!r} is unknown; {did_you_mean(str(which), known)}use "
            f"{', '.join(known)}"
        )
    try:
        pairs = [jnp.array(_pair(name, x), jnp.uint8) for x in arguments]
        return getattr(module, which + kind)(*pairs).encode()
    except TypeError as error:
        raise ConfigError(f"env_params.{name}: {given!r} is invalid: {error}") from None


def _pair(name: str, given: Any) -> tuple[int, int]:
    """A tile's shape and colour, by name or number, or a position."""
    from xminigrid.core.constants import Colors, Tiles

    if not isinstance(given, tuple) or len(given) != 2:
        raise ConfigError(f"env_params.{name}: {given!r} is invalid; it should be (shape, colour)")
    return _number(name, given[0], Tiles), _number(name, given[1], Colors)


def _number(name: str, given: Any, names: Any) -> int:
    known = {field.lower(): int(value) for field, value in vars(names()).items()}
    number = known.get(given.lower()) if isinstance(given, str) else given
    if not isinstance(number, int):
        raise ConfigError(
            f"env_params.{name}: {given!r} is unknown; {did_you_mean(str(given), known)}use "
            f"{', '.join(known)}"
        )
    return number


def _load_benchmark(name: str) -> Any:
    """A benchmark's rulesets, if its file is there already. Nothing is downloaded."""
    from xminigrid import benchmarks

    known = benchmarks.NAME2HFFILENAME
    if name not in known:
        raise ConfigError(
            f"env_kwargs.benchmark: {name!r} is unknown; {did_you_mean(str(name), known)}use "
            f"{', '.join(known)}"
        )
    file = f"{benchmarks.DATA_PATH}/{known[name]}"
    try:
        return benchmarks.load_benchmark_from_path(file)
    except FileNotFoundError:
        raise ConfigError(
            f"env_kwargs.benchmark: {name} is not at {file}; download it first, with "
            f"xminigrid.load_benchmark({name!r})"
        ) from None


def ids() -> list[str]:
    """All registered ids."""
    import xminigrid

    return list(xminigrid.registered_environments())


SUITE = Suite("xminigrid", "xminigrid", XMiniGrid, ids, "ppg-jax[xminigrid]")
