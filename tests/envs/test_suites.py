"""One conformance test for every suite. A new suite gets it by a line in ``CASES``.

Suites that are not installed are skipped: ``make test`` has gymnax and Pgx, ``make test-suites``
has all.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ppg_jax.algorithm import build, replay_difference
from ppg_jax.config import Config, ConfigError, FrozenMapping
from ppg_jax.envs import (
    animate,
    close_envs,
    draw_randomness,
    live_outside,
    random_action,
    reset_envs,
    shown_states,
    suites,
    take_step,
)
from ppg_jax.envs.make import make_env
from tests.envs import own_loops

CASES = [
    "gymnax/CartPole-v1",
    "xminigrid/MiniGrid-DoorKey-6x6",
    "jumanji/Snake-v1",
    "jumanji/Connector-v3",
    "jumanji/Tetris-v0",
    "pgx/2048",
    "pgx/minatar-freeway",
    "navix/Navix-DoorKey-5x5-v0",
    "brax/inverted_pendulum",
    "craftax/Craftax-Classic-Symbolic-v1",
    "playground/CartpoleBalance",
    "procgen/StarpilotEasy-v0",
]
PHYSICS = ("brax", "playground")
"""Suites that round differently in another program."""
B, T = 4, 500


def installed(env_id):
    suite = suites()[env_id.partition("/")[0]]
    return suite.installed


@pytest.fixture(params=CASES)
def env_id(request):
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return request.param


@functools.cache
def environment(env_id, **params):
    return make_env(env_id, FrozenMapping(params))


def short(env_id):
    """The environment, with a time limit if its episodes may be longer than a test."""
    env = environment(env_id)
    limit = env.max_episode_steps
    return env if limit and limit < T else environment(env_id, max_steps_in_episode=T // 3)


def own(env_id):
    suite, _, name = env_id.partition("/")
    return getattr(own_loops, suite)(name)


def choose(where, new, old):
    def leaf(new, old):
        return jnp.where(where.reshape(where.shape + (1,) * (jnp.ndim(old) - 1)), new, old)

    return jax.tree.map(leaf, new, old)


def play(env, key, num_steps=T):
    """Random legal actions through this package."""

    def step(envs, key):
        action_key, env_key = jax.random.split(key)
        keys = jax.random.split(action_key, B)
        actions = jax.vmap(functools.partial(random_action, env.action))(keys, envs.obs)
        randomness = draw_randomness(env, env_key, B)
        after, result = take_step(env, randomness, envs, actions)
        return after, (envs.obs, envs.starts, actions, result, randomness)

    reset_key, play_key = jax.random.split(key)
    start = reset_envs(env, reset_key, B)
    after, played = jax.lax.scan(step, start, jax.random.split(play_key, num_steps))
    close_envs(env, after)
    return after, played


def same_types(new, like):
    """Leaves with the dtypes of others; random keys as they are."""

    def cast(new, like):
        is_key = jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key)
        return new if is_key else jnp.asarray(new).astype(like.dtype).reshape(like.shape)

    return jax.tree.map(cast, new, like)


def play_alone(env, loop, key, played):
    """The same actions and keys through the suite's own functions."""
    reset, own_step = loop
    limit = env.max_episode_steps or 2**30
    zeros = jnp.zeros(B, jnp.int32), jnp.zeros(B, jnp.float32)

    def step(carry, inputs):
        obs, state, lengths, returns = carry
        actions, randomness = inputs
        acted = jax.vmap(env.to_env)(actions)
        final, state, reward, ended = jax.vmap(own_step)(randomness.step, state, acted)
        reward = jnp.asarray(reward, jnp.float32).reshape(B, -1).sum(-1)
        lengths, returns = lengths + 1, returns + reward
        done = jnp.asarray(ended, jnp.bool_) | (lengths >= limit)
        fresh = jax.vmap(reset)(randomness.reset)
        after = choose(
            done, (*fresh, *zeros), (final, same_types(state, fresh[1]), lengths, returns)
        )
        return same_types(after, carry), (obs, final, returns, lengths, done)

    *_, actions, _, randomness = played
    reset_key, _ = jax.random.split(key)
    fresh = jax.vmap(reset)(jax.random.split(reset_key, B))
    start = jax.tree.map(jnp.asarray, (*fresh, *zeros))
    return jax.lax.scan(step, start, (actions, randomness))[1]


@functools.cache
def both(env_id):
    """Both loops as one program. In another program physics would round differently."""
    env, loop = short(env_id), own(env_id)
    if live_outside(env):
        return functools.partial(_both_outside, jax.jit(functools.partial(play, env)), env, loop)

    def program(key):
        after, played = play(env, key)
        return after, played, play_alone(env, loop, key, played)

    return jax.jit(program)


def _both_outside(program, env, loop, key):
    """The same for a suite that is not in JAX, whose own loop is one in Python.

    The numbers of the batches differ from call to call, and are left out.
    """
    after, played = program(key)
    reset_key, _ = jax.random.split(key)
    seed = int(jax.random.bits(reset_key, (), jnp.uint32) >> 1)
    alone = loop(seed, np.asarray(played[2]), env.max_episode_steps)
    return after.replace(env=None), played, alone


def stored(env, obs):
    """What the policy reads, as float vectors ``[..., F]``."""
    part = obs.policy if hasattr(obs, "policy") else obs
    return np.asarray(part, np.float32).reshape(
        *part.shape[: part.ndim - len(env.observation.shape)], -1
    )


def test_it_is_the_suites_own_loop(env_id):
    """Returns, lengths, ends and final observations over 2,000 random steps; twice the same."""
    env, key = short(env_id), jax.random.key(1)
    after, played, alone = both(env_id)(key)
    seen, starts, _, result, _ = played
    obs, final, returns, lengths, done = alone
    np.testing.assert_array_equal(result.terminated | result.truncated, done)
    assert done.any()
    np.testing.assert_array_equal(result.lengths, lengths)
    np.testing.assert_allclose(result.returns, returns, rtol=1e-6)
    np.testing.assert_array_equal(starts[1:], done[:-1])
    flat = jax.vmap(jax.vmap(own_loops.flat))
    np.testing.assert_allclose(stored(env, seen), flat(obs), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stored(env, result.final_obs), flat(final), rtol=1e-4, atol=1e-5)
    if env.max_episode_steps:
        assert not (result.truncated & (lengths < env.max_episode_steps)).any()
    chex.assert_trees_all_equal((after, played), both(env_id)(key)[:2])


def test_states_keep_their_types_and_programs_have_no_callback(env_id):
    env = environment(env_id)
    outside = live_outside(env)

    def step(key):
        envs = reset_envs(env, key, 1)
        action = jax.vmap(lambda obs: random_action(env.action, key, obs))(envs.obs)
        after, _ = take_step(env, draw_randomness(env, key, 1), envs, action)
        return envs, after

    before, after = jax.eval_shape(step, jax.random.key(0))
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert not x.weak_type
        assert not y.weak_type
    assert ("callback" in str(jax.make_jaxpr(step)(jax.random.key(0)))) == outside


def test_a_time_limit_cuts_and_does_not_terminate(env_id):
    env = environment(env_id, max_steps_in_episode=6)
    _, (_, _, _, result, _) = jax.jit(lambda key: play(env, key, 24))(jax.random.key(2))
    reached = np.asarray(result.lengths == 6)
    assert (result.truncated | result.terminated)[reached].all()
    assert result.truncated.any()
    assert result.lengths.max() == 6
    assert not (result.truncated & ~reached).any()


def test_vmapped_seeds_equal_single_ones(env_id):
    env = environment(env_id)
    keys = jax.random.split(jax.random.key(3), 2)
    if live_outside(env):
        with pytest.raises(ConfigError, match="cannot be vmapped"):
            jax.vmap(lambda key: play(env, key, 40))(keys)
        return
    alone = jax.jit(lambda key: play(env, key, 40)[1][3])
    together = jax.jit(jax.vmap(lambda key: play(env, key, 40)[1][3]))(keys)
    tolerance = 1e-3 if env_id.startswith(PHYSICS) else 1e-6
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], together)
        chex.assert_trees_all_close(alone(keys[i]), one, rtol=tolerance, atol=tolerance)


def test_no_random_action_is_illegal(env_id):
    env = environment(env_id)
    if not env.action.masked:
        pytest.skip("it has no mask")
    _, (obs, _, actions, _, _) = jax.jit(lambda key: play(env, key, 40))(jax.random.key(4))
    legal = np.unpackbits(np.asarray(obs.legal), -1, sum(env.action.sizes), "little")
    starts = np.cumsum((0, *env.action.sizes[:-1]))
    chosen = np.asarray(actions).reshape(40, B, -1) + starts
    assert np.take_along_axis(legal, chosen, -1).all()
    assert not legal.all() or "minatar" in env_id  # there all are legal


def test_it_can_be_drawn(env_id, tmp_path):
    env = environment(env_id)
    try:
        env.unwrapped.check_drawable()
    except ConfigError as error:
        pytest.skip(str(error))
    envs = jax.jit(lambda key: reset_envs(env, key, 1))(jax.random.key(5))
    state = jax.tree.map(lambda x: x[0], shown_states(env, envs))
    close_envs(env, envs)
    file = str(tmp_path / "episode.gif")
    animate(env, [state] * 2, [0.0, 1.0], file)
    with Image.open(file) as picture:
        assert picture.format == "GIF"
        assert min(picture.size) >= 64
        assert len(np.unique(np.asarray(picture.convert("L")))) > 1  # not a single colour


def test_freeways_timer_is_a_time_limit():
    if not suites()["pgx"].installed:
        pytest.skip("pgx is not installed")
    env = environment("pgx/minatar-freeway")
    _, (_, _, _, result, _) = jax.jit(lambda key: play(env, key, 2501))(jax.random.key(6))
    ends = np.asarray(result.truncated)
    assert ends[-1].all()
    assert not ends[:-1].any()
    assert not result.terminated.any()


def test_unknown_names_are_refused(env_id):
    suite, _, name = env_id.partition("/")
    with pytest.raises(ConfigError, match=f"env: '?.*{name}x"):
        make_env(f"{suite}/{name}x")
    with pytest.raises(ConfigError, match="env_params.max_stepz"):
        make_env(env_id, FrozenMapping({"max_stepz": 3}))
    with pytest.raises(ConfigError, match="env_kwargs"):
        make_env(env_id, env_kwargs=FrozenMapping({"no_such_thing": 3}))
    with pytest.raises(ConfigError, match=r"max_steps_in_episode: 0 is invalid"):
        make_env(env_id, FrozenMapping({"max_steps_in_episode": 0}))


@pytest.mark.parametrize(
    ("env_id", "kwargs", "packed"),
    [
        ("navix/Navix-Empty-5x5-v0", {"observation": "rgb_first_person"}, None),
        # 1,323 flags of the map, and 22 numbers.
        ("craftax/Craftax-Classic-Symbolic-v1", {}, 166 + 22 * 4),
    ],
)
def test_games_are_packed_and_replayed_exactly(env_id, kwargs, packed):
    if not installed(env_id):
        pytest.skip(f"{env_id} is not installed")
    config = Config(env=env_id, env_kwargs=kwargs, num_envs=8, num_steps=32, num_aux_minibatches=64)
    assert replay_difference(config) == 0
    if packed is not None:
        assert build(config.replace(aux_storage="packed")).packing.policy.nbytes == packed


def test_an_unknown_suite_is_refused():
    with pytest.raises(ConfigError, match="no suite 'craftx'; did you mean craftax"):
        make_env("craftx/Craftax-Symbolic-v1")


def test_craftax_measures_its_achievements():
    """They are those that Craftax itself reports at the end of an episode."""
    if not suites()["craftax"].installed:
        pytest.skip("craftax is not installed")
    env = environment("craftax/Craftax-Classic-Symbolic-v1")
    suite = env.unwrapped
    ending = suite.params.replace(max_timesteps=1)  # every step reports

    def step(state, key):
        action_key, env_key = jax.random.split(key)
        action = jax.random.randint(action_key, (), 0, 17)
        _, state, _, _, info = suite.env.step_env(env_key, state, action, ending)
        told = {f"Achievements/{name}": 100 * x for name, x in suite.measures(state).items()}
        return state, (told, {name: info[name] for name in told})

    def episode(key):
        _, state = suite.reset(key)
        return jax.lax.scan(step, state, jax.random.split(key, 200))[1]

    mine, theirs = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 8))
    assert len(mine) == 22
    chex.assert_trees_all_close(mine, theirs)
    shares = np.stack([x[:, -1].mean() for x in mine.values()])
    assert shares.max() > 0
    assert shares.min() == 0
