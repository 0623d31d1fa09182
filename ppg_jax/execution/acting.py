"""Using a trained policy outside this package's own loops: step by step, or exported."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm import build, check_key
from ppg_jax.config import Config, ConfigError, check_whole
from ppg_jax.envs import AnyEnvironment
from ppg_jax.execution.evaluation import same_shapes
from ppg_jax.functional import in_32_bits
from ppg_jax.networks import POLICY, Agent
from ppg_jax.types import Inputs, NetworkState, Recalled, no_step

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@dataclasses.dataclass(frozen=True)
class Step:
    """Optional arguments of a policy step, as in ``SavedRun.policy``."""

    memory: Any = None
    starts: Any = None
    previous: Any = None
    greedy: bool = False
    raw: bool = False


def act(config: Config, acting: tuple[Any, Any], obs: Any, key: chex.PRNGKey, step: Step) -> Any:
    """``SavedRun.policy``, with the parameters and observation statistics of one seed."""
    ppg = build(config)
    env, agent = ppg.env, ppg.agent
    if not (step.greedy and key is None):
        check_key(key)
    obs, lead = _observations(env, obs)
    recalled = _recalled(agent, step.previous, lead)
    starts = _starts(step, lead)
    memory = initial_memory(config, *lead) if step.memory is None else step.memory
    _check_memory(config, memory, lead)
    inputs = Inputs(obs=obs, starts=starts, recalled=recalled)
    if not lead:
        inputs, memory = jax.tree.map(lambda x: x[None], (inputs, memory))
    played = _program(config, step.greedy, step.raw)(*acting, inputs, memory, key)
    actions, after = played if lead else jax.tree.map(lambda x: x[0], played)
    return actions if step.memory is None else (actions, after)


def initial_memory(config: Config, num_envs: int | None = None) -> Any:
    """``SavedRun.initial_memory``."""
    agent = build(config).agent
    memory = agent.initial_memory(1 if num_envs is None else num_envs)
    return jax.tree.map(lambda x: x[0], memory) if num_envs is None else memory


def to_env(config: Config, actions: Any) -> Any:
    """``SavedRun.to_env``."""
    env = build(config).env
    shape = () if env.action.kind == "discrete" else (
        env.action.sizes if env.action.kind == "continuous" else (len(env.action.sizes),)
    )  # fmt: skip
    actions = _as_array("actions", actions)
    if actions.shape == shape:
        return env.to_env(actions)
    if actions.shape[1:] != shape or not actions.ndim:
        raise ConfigError(
            f"actions: shape {actions.shape} is invalid; raw actions have shape {shape}, with or "
            "without a leading batch axis"
        )
    return jax.vmap(env.to_env)(actions)


@functools.lru_cache(maxsize=16)
def _program(config: Config, greedy: bool, raw: bool) -> Callable[..., Any]:
    ppg = build(config)
    env, agent = ppg.env, ppg.agent

    @jax.jit
    @in_32_bits()
    def play(params: Any, stats: Any, inputs: Inputs, memory: Any, key: chex.PRNGKey) -> Any:
        out = agent.step(NetworkState(params, stats), inputs, memory, (POLICY,))
        actions = out.policy.mode() if greedy else out.policy.sample(key)
        return actions if raw else jax.vmap(env.to_env)(actions), memory | out.states

    return play


def _as_array(name: str, value: Any) -> jax.Array:
    try:
        if isinstance(value, str | bytes):
            raise TypeError("it should be an array of numbers")
        array = jnp.asarray(value)
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise TypeError("it should be an array of real numbers")
        return array
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{name}: {type(value).__name__} is invalid: {reason}") from None


def _observations(env: AnyEnvironment, obs: Any) -> tuple[chex.Array, tuple[int, ...]]:
    """Observations in their stored form, and their batch shape: ``(B,)``, or () for a single one.

    Raises:
      ConfigError: they do not have the structure and shapes of the environment's observations.
    """
    like: list[Any]
    tree: Any
    like, tree = jax.tree.flatten(env.given)
    wanted = [x.shape for x in like]
    found: Any
    leaves, found = jax.tree.flatten(obs)
    if len(like) == 1 and found != tree:  # nested lists become a single array
        leaves, found = [obs], tree
    if found != tree:
        raise ConfigError(f"obs: the structure {found} is invalid; it should be {tree}")
    leaves = [_as_array("obs", leaf) for leaf in leaves]
    shapes = [leaf.shape for leaf in leaves]
    given = jax.tree.unflatten(tree, leaves)
    if shapes == wanted:
        return env.store(given), ()
    batch = {shape[:1] for shape in shapes}
    if [shape[1:] for shape in shapes] != wanted or len(batch) != 1 or not all(shapes):
        one = len(wanted) == 1
        raise ConfigError(
            f"obs: shape {shapes[0] if one else shapes} is invalid; it should be "
            f"{wanted[0] if one else wanted}, with or without a leading batch axis"
        )
    (lead,) = batch
    if lead == (0,):
        raise ConfigError(f"obs: shape {shapes[0]} is invalid; it contains no observation")
    return jax.vmap(env.store)(given), lead


def _starts(step: Step, lead: tuple[int, ...]) -> chex.Array:
    """True where an observation begins an episode, bool ``[*lead]``.

    Raises:
      ConfigError: ``starts`` does not fit the number of observations.
    """
    begins = step.memory is None if step.starts is None else step.starts
    starts = _as_array("starts", begins).astype(jnp.bool_)
    if starts.shape not in ((), lead):
        raise ConfigError(f"starts: shape {starts.shape} is invalid; it should be {lead}")
    return jnp.broadcast_to(starts, lead)


def _check_memory(config: Config, memory: Any, lead: tuple[int, ...]) -> None:
    """Checks that a memory fits this network.

    Raises:
      ConfigError: it has another structure or other shapes.
    """
    want = jax.eval_shape(lambda: initial_memory(config, *lead))
    if not same_shapes(memory, want):
        raise ConfigError(
            "memory: its structure or a shape is invalid for this network; begin with "
            "saved.initial_memory(num_envs), where num_envs is the number of observations"
        )


def _recalled(
    agent: Agent, previous: Mapping[str, chex.Array] | None, lead: tuple[int, ...]
) -> Recalled | None:
    """The previous step in the form that the networks read.

    Fields that the networks do not read are ignored.

    Raises:
      ConfigError: a field that they read is missing, or has another shape.
    """
    blank = no_step(agent.action, agent.network.recall or (), lead)
    if blank is None or previous is None:
        return blank
    if not isinstance(previous, Mapping):
        raise ConfigError(f"previous: {type(previous).__name__} is invalid; it should be a dict")
    fields = {"action": "actions", "reward": "rewards", "done": "done"}
    given = {}
    for name in agent.network.recall or ():
        if name not in previous:
            raise ConfigError(f"previous: {name} is missing, but this network reads it")
        like = getattr(blank, fields[name])
        value = _as_array("previous", previous[name]).astype(like.dtype)
        if value.shape != like.shape:
            raise ConfigError(
                f"previous: {name} has shape {value.shape}; it should be {like.shape}"
            )
        given[fields[name]] = value
    return Recalled(**given)


def export_policy(
    config: Config, acting: tuple[Any, Any], platforms: Sequence[str], step: Step
) -> bytearray:
    """``SavedRun.export``: the serialized program.

    Raises:
      ConfigError: a platform is unknown.
    """
    from jax import export

    listed = isinstance(platforms, Sequence) and not isinstance(platforms, str)
    if not listed or not platforms or any(name not in PLATFORMS for name in platforms):
        raise ConfigError(
            f"platforms: {platforms!r} is invalid; it should be a list of {', '.join(PLATFORMS)}"
        )
    ppg = build(config)
    env, agent = ppg.env, ppg.agent
    (num_envs,) = export.symbolic_shape("num_envs")
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))

    def batched(x: Any) -> Any:
        return jax.ShapeDtypeStruct((num_envs, *x.shape), x.dtype)

    def play(obs: Any, key_data: Any, *more: Any) -> Any:
        memory, starts, previous = more or (None, None, None)
        asked = dataclasses.replace(
            step, memory=memory, starts=starts, previous=previous if previous else None
        )
        return act(config, acting, obs, jax.random.wrap_key_data(key_data), asked)

    args = [jax.tree.map(batched, env.given), key]
    memory = jax.eval_shape(lambda: initial_memory(config))
    recall = agent.network.recall or ()
    if jax.tree.leaves(memory) or recall:
        starts = jax.ShapeDtypeStruct((num_envs,), jnp.bool_)
        blank = jax.eval_shape(lambda: no_step(agent.action, recall, ()))
        fields = {"action": "actions", "reward": "rewards", "done": "done"}
        previous = {name: batched(getattr(blank, fields[name])) for name in recall}
        args += [jax.tree.map(batched, memory), starts, previous]
    return export.export(jax.jit(play), platforms=list(platforms))(*args).serialize()


def check_seed(config: Config, seed: Any) -> int:
    """Checks the number of a seed of a run, and returns it.

    Raises:
      ConfigError: the run has no such seed.
    """
    try:
        return check_whole("seed", seed, 0, config.seeds - 1)
    except ConfigError:
        raise ConfigError(
            f"seed: {seed!r} is invalid; the run has seeds 0 to {config.seeds - 1}"
        ) from None
