"""Every suite stepped by its own functions, without this package, for the conformance test.

A loop is ``(reset, step)``: ``reset(key) -> (obs, state)`` and ``step(key, state, action) -> (obs,
state, reward, ended)``, where ``ended`` does not know the time limit.
"""

import warnings
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np


def brax(env_id):
    with quiet():
        from brax import envs

        env = envs.get_environment(env_id)
    return _of_physics(env)


def craftax(env_id):
    from craftax.craftax_env import make_craftax_env_from_name

    env = make_craftax_env_from_name(env_id, auto_reset=False)
    params = env.default_params.replace(max_timesteps=2**31 - 1)

    def step(key, state, action):
        obs, state, reward, done, _ = env.step_env(key, state, action, params)
        return obs, state, reward, done

    return lambda key: env.reset_env(key, params), step


def gymnax(env_id):
    import gymnax

    env, params = gymnax.make(env_id)

    def step(key, state, action):
        obs, state, reward, terminated, _ = env.step_env(key, state, action, params)
        return obs, state, reward, terminated

    return lambda key: env.reset_env(key, params), step


def jumanji(env_id):
    import jumanji

    env = jumanji.make(env_id)
    if getattr(env, "time_limit", None) is not None:
        env.time_limit = 2**31 - 1

    def read(obs):
        if env_id == "Connector-v3":  # numbers of agents are read one-hot
            obs = obs._replace(grid=jax.nn.one_hot(obs.grid, 31))
        return obs

    def reset(key):
        state, first = env.reset(key)
        return read(first.observation), state

    sizes = tuple(np.ravel(getattr(env.action_spec, "num_values", ())).tolist())

    def step(key, state, action):
        if len(sizes) > 1 and not jnp.ndim(action):  # a number for a combination
            action = jnp.stack(jnp.unravel_index(action, sizes))
        state, after = env.step(state, action)
        return read(after.observation), state, after.reward, after.last()

    return reset, step


def navix(env_id):
    import navix

    env = navix.make(env_id)

    def reset(key):
        first = env.reset(key)
        return first.observation, first

    def step(key, state, action):
        after = env._step(state, action)
        return after.observation, after, after.reward, after.is_termination()

    return reset, step


def pgx(env_id):
    import pgx

    env = pgx.make(env_id)

    def reset(key):
        state = env.init(key)
        return state.observation, state

    def step(key, state, action):
        state = env.step(state, action, key)
        return state.observation, state, state.rewards[0], state.terminated

    return reset, step


def playground(env_id):
    with quiet():
        from mujoco_playground import registry

        env = registry.load(env_id, config_overrides={"impl": "jax"})
    return _of_physics(env)


def procgen(env_id):
    """Not ``(reset, step)``, but ``play(seed, actions [T, B], limit)`` with EnvPool's own loop.

    After an end EnvPool's next step ignores the action and resets. This loop steps each environment
    as often as there are actions for it, and leaves those steps out of what it returns.
    """
    from ppg_jax.envs.suites.procgen import _library  # loads Qt

    def play(seed, actions, limit):
        steps, num_envs = actions.shape
        pool = _library().make_gymnasium(
            env_id, num_envs=num_envs, seed=seed, channel_first=False, max_episode_steps=limit
        )
        seen = pool.reset()[0]
        rows = [[] for _ in range(num_envs)]
        ended, totals = np.zeros(num_envs, bool), np.zeros((2, num_envs))
        while min(map(len, rows)) < steps:
            turn = [min(len(row), steps - 1) for row in rows]
            acted = actions[turn, np.arange(num_envs)]
            after, reward, terminated, truncated, _ = pool.step(acted)
            totals = np.where(ended, 0, totals + np.stack([np.ones(num_envs), reward]))
            now = ~ended & (terminated | truncated)
            for i in np.flatnonzero(~ended):
                rows[i].append((seen[i], after[i], totals[1, i], totals[0, i], now[i]))
            seen, ended = after, now
        pool.close()
        rows = [row[:steps] for row in rows]
        return tuple(np.stack([[x[k] for x in row] for row in rows], 1) for k in range(5))

    return play


def xminigrid(env_id):
    import xminigrid

    env, params = xminigrid.make(env_id)
    if hasattr(params, "ruleset"):
        params = params.replace(ruleset=example_ruleset())

    def reset(key):
        first = env.reset(params, key)
        return first.observation, first

    def step(key, state, action):
        after = env.step(params, state, action)
        return after.observation, after, after.reward, after.discount == 0

    return reset, step


def _of_physics(env):
    """The functions of Brax and of MuJoCo Playground, which warn while they are traced."""

    def reset(key):
        with quiet():
            state = env.reset(key)
        return state.obs, state

    def step(key, state, action):
        with quiet():
            state = env.step(state, action)
        return state.obs, state, state.reward, jnp.asarray(state.done) > 0

    return reset, step


@contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def example_ruleset():
    """The ruleset of XLand ids for which the configuration names none."""
    from xminigrid.core.constants import TILES_REGISTRY, Colors, Tiles
    from xminigrid.core.goals import TileNearGoal
    from xminigrid.core.rules import TileNearRule
    from xminigrid.types import RuleSet

    pyramid, square = (Tiles.PYRAMID, Colors.BLUE), (Tiles.SQUARE, Colors.PURPLE)
    red, green, yellow = ((Tiles.BALL, c) for c in (Colors.RED, Colors.GREEN, Colors.YELLOW))
    rule = TileNearRule(*(TILES_REGISTRY[tile] for tile in (pyramid, square, red)))
    return RuleSet(
        goal=TileNearGoal(TILES_REGISTRY[red], TILES_REGISTRY[green]).encode(),
        rules=rule.encode()[None],
        init_tiles=jnp.stack([TILES_REGISTRY[x] for x in (pyramid, square, green, yellow)]),
    )


def flat(obs):
    """All numbers of an observation but its mask, as a float32 vector."""
    leaves = jax.tree_util.tree_leaves_with_path(obs)
    kept = [x for path, x in leaves if "action_mask" not in jax.tree_util.keystr(path)]
    return jnp.concatenate([jnp.asarray(x, jnp.float32).reshape(-1) for x in kept])
