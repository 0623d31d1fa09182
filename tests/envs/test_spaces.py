"""What environments are handed and what networks see, for every space there is."""

import collections

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces as gymnax_spaces

from ppg_jax import Config, ConfigError, load_run, make_train, run
from ppg_jax.algorithm.ppg import build
from ppg_jax.backend import CPU
from ppg_jax.envs.make import make_env, make_training_env
from ppg_jax.envs.spaces import MultiDiscrete, read_action_space
from ppg_jax.functional.running_stats import init_stats, update_stats
from ppg_jax.networks import reading
from ppg_jax.networks.agent import Unroll, make_agent
from ppg_jax.types import Inputs, NetworkState
from tests import probes

S = gymnasium.spaces
INT, FLOAT = jnp.int32, jnp.float32
BOX = S.Box(-0.1, 0.1, (2, 3))


class Acts(probes.Probe):
    """Any action space; the reward is made of what arrives."""

    def __init__(self, space, reward=lambda action: 0.0):
        self.space, self.made = space, reward

    def action_space(self, params=None):
        return self.space

    def reward(self, state, action):
        return self.made(action)


class Sees(probes.Probe):
    """Any observation space, and one observation of it."""

    def __init__(self, space, obs):
        self.space, self.seen = space, obs

    def observation_space(self, params):
        return self.space

    def reset_env(self, key, params):
        return self.seen, probes.State(obs=jnp.zeros(1), time=0)

    def step_env(self, key, state, action, params):
        after = probes.State(obs=state.obs, time=state.time + 1)
        return self.seen, after, 1.0, self.is_terminated(after, params), {}


def same(found, want):
    """The same structure, shapes, dtypes and values."""
    assert jax.tree.structure(found) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        b = jnp.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-6)


HANDED_OVER = {
    "Discrete": (S.Discrete(3), "discrete", (3,), 2, INT(2)),
    "gymnax Discrete": (gymnax_spaces.Discrete(3), "discrete", (3,), 2, INT(2)),
    "Discrete from -1": (S.Discrete(3, start=-1), "discrete", (3,), 0, INT(-1)),
    "MultiDiscrete": (S.MultiDiscrete([2, 3]), "multi_discrete", (2, 3), [1, 2], [1, 2]),
    "our MultiDiscrete": (MultiDiscrete((2, 3)), "multi_discrete", (2, 3), [1, 2], [1, 2]),
    "MultiDiscrete from 0 and 25": (
        S.MultiDiscrete([2, 3], start=[0, 25]), "multi_discrete", (2, 3), [1, 2], [1, 27]),
    "MultiDiscrete of two axes": (
        S.MultiDiscrete([[2, 3], [4, 5]]), "multi_discrete", (2, 3, 4, 5), [1, 2, 3, 4],
        [[1, 2], [3, 4]]),
    "MultiBinary": (
        S.MultiBinary(4), "multi_discrete", (2,) * 4, [1, 0, 0, 1], jnp.int8([1, 0, 0, 1])),
    "MultiBinary of two axes": (
        S.MultiBinary((2, 2)), "multi_discrete", (2,) * 4, [1, 0, 0, 1],
        jnp.int8([[1, 0], [0, 1]])),
    "Tuple": (
        S.Tuple((S.Discrete(2, start=5), S.MultiBinary(2))), "multi_discrete", (2, 2, 2),
        [1, 0, 1], (INT(6), jnp.int8([0, 1]))),
    "gymnax Tuple": (
        gymnax_spaces.Tuple((gymnax_spaces.Discrete(2), gymnax_spaces.Discrete(3))),
        "multi_discrete", (2, 3), [1, 2], (INT(1), INT(2))),
    "Dict": (
        S.Dict({"b": S.Discrete(2), "a": S.Tuple((S.Discrete(3, start=-1),))}), "multi_discrete",
        None, None, None),
    "gymnax Dict": (
        gymnax_spaces.Dict({"x": gymnax_spaces.Discrete(2), "y": gymnax_spaces.Discrete(3)}),
        "multi_discrete", (2, 3), [1, 2], {"x": INT(1), "y": INT(2)}),
    "Box": (BOX, "continuous", (6,), [0.0, 1, -1, 0.5, 9, -9],
            jnp.float32([[0, 0.1, -0.1], [0.05, 0.1, -0.1]])),
    "gymnax Box": (gymnax_spaces.Box(10, 20, (2,), FLOAT), "continuous", (2,), [0.0, 0.5],
                   jnp.float32([15, 17.5])),
    "Box of half precision": (S.Box(0, 1, (1,), np.float16), "continuous", (1,), [0.0],
                              jnp.float16([0.5])),
    "unbounded Box": (S.Box(-np.inf, np.inf, (2,)), "continuous", (2,), [7.0, -9],
                      jnp.float32([7, -9])),
    "Box bounded on one side": (
        S.Box(np.float32([10, 0, -np.inf]), np.float32([np.inf, np.inf, -4])), "continuous", (3,),
        [1.0, -1.0, -1.0], jnp.float32([11, 0, -5])),
    "Box as large as numbers get": (
        S.Box(-3.4e38, 3.4e38, (1,)), "continuous", (1,), [2.0], jnp.float32([2])),
    "Box of one point": (S.Box(3, 3, (1,)), "continuous", (1,), [0.7], jnp.float32([3])),
    "scalar Box": (S.Box(0, 4, ()), "continuous", (1,), [0.5], FLOAT(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", HANDED_OVER)
def test_what_the_environment_receives(name):
    space, kind, sizes, action, want = HANDED_OVER[name]
    if name == "Dict":  # gymnasium sorts the names
        order = list(space.spaces)
        sizes = tuple({"b": 2, "a": 3}[key] for key in order)
        action = [{"b": 1, "a": 0}[key] for key in order]
        want = {"a": (INT(-1),), "b": INT(1)}
    spec, to_env = read_action_space(space, "it", scale=True)
    assert (spec.kind, spec.sizes) == (kind, sizes)
    dtype = FLOAT if kind == "continuous" else INT
    want = want if not isinstance(want, list) else jnp.array(want, INT)
    same(to_env(jnp.array(action, dtype)), want)
    batch = jnp.array([action, action], dtype)
    same(jax.vmap(to_env)(batch), jax.tree.map(lambda x: jnp.stack([x, x]), want))


@pytest.mark.parametrize(
    "space",
    [
        S.Text(4),
        S.Graph(S.Discrete(2), None),
        S.Sequence(S.Discrete(2)),
        S.OneOf((S.Discrete(2), S.Discrete(3))),
        S.Box(0, 3, (2,), np.int32),
        S.Tuple((S.Discrete(2), S.Box(0, 1, (1,)))),
        S.Tuple((S.Box(0, 1, (1,)),)),
        S.Dict({"a": S.Tuple((S.Text(3),))}),
        S.Tuple(()),
        S.Box(0, 1, (0,)),
        S.Discrete(3, start=2**40),
        S.Discrete(3, start=126, dtype=np.int8),
        gymnax_spaces.Box(5, 1, (1,)),
        gymnax_spaces.Box(np.nan, np.nan, (1,)),
        None,
        "left or right",
    ],
    ids=str,
)
def test_spaces_that_nobody_can_act_in_are_refused(space):
    with pytest.raises(ConfigError, match="env: Acts has the action space") as caught:
        make_env(Acts(space))
    assert "\n" not in str(caught.value)


def test_without_scaling_actions_are_clipped_as_ever():
    _, to_env = read_action_space(BOX, "it")
    want = jnp.float32([[0, 0.1, -0.1], [0.05, 0.1, -0.1]])
    same(to_env(jnp.float32([0, 1, -1, 0.05, 9, -9])), want)


IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
SEEN = {
    "Discrete": (S.Discrete(4), INT(2), [0, 0, 1, 0]),
    "gymnax Discrete": (gymnax_spaces.Discrete(3), INT(2), [0, 0, 1]),
    "Discrete from -1": (S.Discrete(3, start=-1), INT(-1), [1, 0, 0]),
    "MultiDiscrete from 1 and 5": (
        S.MultiDiscrete([2, 3], start=[1, 5]), jnp.array([2, 5], INT), [0, 1, 1, 0, 0]),
    "MultiBinary": (S.MultiBinary(3), jnp.int8([1, 0, 1]), [1, 0, 1]),
    "Box": (S.Box(0, 255, (3,)), jnp.float32([1, 0, 255]), [1, 0, 255]),
    "Box of which one may be 255": (
        S.Box(np.float32([0, 0]), np.float32([1, 255])), jnp.float32([1, 7]), [1, 7]),
    "bytes that are no image": (
        S.Box(0, 255, (3,), np.uint8), jnp.uint8([1, 0, 255]), [1, 0, 255]),
    "byte image": (S.Box(0, 255, (8, 8, 3), np.uint8), jnp.array(IMAGE), IMAGE / 255),
    "grey byte image": (
        S.Box(0, 255, (8, 8), np.uint8), jnp.array(IMAGE[..., 0]), IMAGE[..., 0] / 255),
    "image of floats": (S.Box(0, 255, (8, 8, 3)), jnp.float32(IMAGE), IMAGE),
    "Dict": (
        S.Dict({"where": S.Discrete(3, start=-1), "speed": S.Box(0, 255, (2,))}),
        {"where": INT(0), "speed": jnp.float32([3, 4])}, None),
    "Tuple in a Tuple": (
        S.Tuple((S.Tuple((S.MultiDiscrete([2, 2]), S.MultiBinary(2))), S.Box(0, 1, ()))),
        ((jnp.array([1, 0], INT), jnp.int8([0, 1])), FLOAT(0.5)), [0, 1, 1, 0, 0, 1, 0.5]),
    "image in a Dict": (
        S.Dict({"i": S.Box(0, 255, (8, 8, 3), np.uint8)}), {"i": jnp.array(IMAGE)},
        IMAGE.reshape(-1) / 255),
}  # fmt: skip


def read(env, config, obs):
    """What encoders get of an observation."""
    agent = make_agent(config, env.observation, env.action, CPU)
    return reading.read(agent.network, env.observation, env.store(obs)[None], None)[0]


@pytest.mark.parametrize("name", SEEN)
def test_what_the_networks_see(name):
    space, obs, want = SEEN[name]
    config = Config(env=Sees(space, obs), network={"encoder": "mlp"})
    env = make_training_env(config)
    if name == "Dict":
        parts = {"where": [0, 1, 0], "speed": [3, 4]}
        want = [x for key in space.spaces for x in parts[key]]
    np.testing.assert_allclose(read(env, config, obs), want, rtol=1e-6)
    # It is what an episode shows, and what a policy is asked with.
    np.testing.assert_array_equal(env.reset(jax.random.key(0))[0], env.store(obs))


def test_a_scale_may_be_chosen():
    env = Sees(S.Box(0, 255, (8, 8, 3)), jnp.float32(IMAGE))
    config = Config(env=env, observation_scale=255.0, network={"encoder": "mlp"})
    np.testing.assert_allclose(
        read(make_training_env(config), config, env.seen), IMAGE / 255, rtol=1e-6
    )
    with pytest.raises(ConfigError, match="observation_scale: 0"):
        Config(observation_scale=0)
    with pytest.raises(ConfigError, match="observation_scale: 2"):
        make_training_env(Config(env=Sees(S.Discrete(2), INT(1)), observation_scale=2))


@pytest.mark.parametrize("space", [S.Text(4), S.Sequence(S.Discrete(2)), None], ids=str)
def test_unsupported_observation_spaces_are_rejected(space):
    with pytest.raises(ConfigError, match="has the observation space .* is not supported"):
        make_env(Sees(space, jnp.zeros(2)))


def test_observations_and_their_space_must_agree():
    two = S.Dict({"a": S.Discrete(2), "b": S.Discrete(2)})
    more = {"a": INT(0), "b": INT(0), "c": INT(0)}
    one = S.Tuple((S.Discrete(2),))
    for space, obs in (
        (two, {"a": INT(0)}), (S.Discrete(2), {"a": INT(0)}), (two, INT(0)),
        (two, more), (one, (INT(0), INT(0))), (one, ()),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="env: Sees"):
            make_env(Sees(space, obs))


def test_a_named_tuple_is_a_dict():
    both = collections.namedtuple("both", "a b")(INT(2), jnp.float32([3]))
    space = S.Dict({"a": S.Discrete(2, start=1), "b": S.Box(0, 9, (1,))})
    np.testing.assert_array_equal(make_env(Sees(space, both)).store(both), [0, 1, 3])


class Picture(probes.Probe):
    """A random 3-channel picture; action 1 is right where its first channel is bright."""

    def __init__(self, first):
        self.first = first

    @property
    def name(self):
        return "first" if self.first else "last"

    def observation_space(self, params):
        shape = (3, 8, 10) if self.first else (8, 10, 3)
        return S.Box(0, 255, shape, np.uint8)

    def first_obs(self, key):
        picture = jax.random.randint(key, (8, 10, 3), 0, 256).astype(jnp.uint8)
        return jnp.moveaxis(picture, -1, 0) if self.first else picture

    def reward(self, state, action):
        return jnp.where((state.obs.reshape(-1)[0] > 127) == (action == 1), 1.0, -1.0)


@pytest.mark.parametrize("normalize", [False, True])
def test_pictures_with_their_channels_first_are_recognised(normalize):
    outputs, grads = [], []
    keys = jax.random.split(jax.random.key(3), 4)
    for first in (False, True):
        config = Config(env=Picture(first), network={"hidden_sizes": (8,), "channels": (4,)})
        ppg = build(config)
        env, agent = ppg.env, ppg.agent
        assert agent.network.encoder == "cnn"
        assert agent.network.image_layout == ("channels_first" if first else "channels_last")
        obs = jax.vmap(env.reset)(keys)[0][None]
        assert obs.shape == ((1, 4, 3, 8, 10) if first else (1, 4, 8, 10, 3))
        params = agent.init(jax.random.key(0))
        stats = update_stats(init_stats(env.observation.shape), obs) if normalize else None

        def loss(params, agent=agent, stats=stats, obs=obs):
            inputs = Inputs(obs=obs, starts=jnp.ones((1, 4), bool))
            how = Unroll(("value_head",))
            out = agent.unroll(NetworkState(params, stats), inputs, agent.initial_memory(4), how)
            return jnp.square(out.values).sum(), out.values

        grad, values = jax.jit(jax.grad(loss, has_aux=True))(params)
        outputs.append(values)
        grads.append(grad)
    np.testing.assert_allclose(*outputs, rtol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "layout", "first"),
    [
        ((3, 64, 64), "auto", True), ((1, 84, 84), "auto", True), ((4, 84, 84), "auto", True),
        ((64, 64, 3), "auto", False), ((10, 10, 4), "auto", False), ((10, 10, 10), "auto", False),
        ((4, 9, 4), "auto", False), ((8, 64, 64), "auto", True), ((2, 84, 84), "auto", True),
        ((12, 64, 96), "auto", True), ((64, 96, 12), "auto", False),
        ((8, 64, 64), "channels_first", True), ((3, 64, 64), "channels_last", False),
    ],
)  # fmt: skip
def test_where_channels_are(shape, layout, first):
    env = Sees(S.Box(0, 255, shape, np.uint8), jnp.zeros(shape, jnp.uint8))
    agent = build(Config(env=env, network={"image_layout": layout, "encoder": "mlp"})).agent
    assert agent.network.image_layout == ("channels_first" if first else "channels_last")


def test_a_grid_of_numbers_is_no_picture_of_many_channels():
    env = Sees(S.Box(0, 1, (5, 7, 7)), jnp.zeros((5, 7, 7)))
    agent = build(Config(env=env)).agent
    assert agent.network.image_layout == "channels_last"


def bandit(env, **changes):
    fields = {
        "env": env, "num_envs": 32, "num_steps": 8, "n_pi": 4, "num_minibatches": 4, "e_pi": 2,
        "e_v": 2, "num_aux_minibatches": 8, "total_timesteps": 32 * 8 * 160,
        "network": {"hidden_sizes": (16,)},
        "hparams": {"learning_rate": 3e-3, "entropy_coef": 0.0},
    }  # fmt: skip
    return Config(**fields | changes)


@pytest.mark.slow
def test_an_optimum_far_from_zero_is_learnt():
    """Box from 10 to 20, best at 15.5; unscaled every action is clipped to 10."""
    space = S.Box(10, 20, (1,))
    env = Acts(space, lambda action: -jnp.square(action[0] - 15.5))
    train = jax.jit(make_train(bandit(env)))
    returns = train(jax.random.key(0))[1]["episode_return"]
    assert returns[-1] > -0.5
    config = bandit(env, scale_actions=False, total_timesteps=32 * 8 * 4)
    returns = jax.jit(make_train(config))(jax.random.key(0))[1]["episode_return"]
    np.testing.assert_allclose(returns, -(5.5**2), rtol=1e-5)


def test_a_policy_gives_what_the_environment_takes(tmp_path):
    env = Acts(BOX, lambda action: jnp.sum(action))
    config = bandit(env, total_timesteps=32 * 8 * 4, e_aux=0)
    run(config, out=tmp_path / "run", progress=False)
    saved = load_run(tmp_path / "run", env=env)
    obs, key = jnp.zeros((5, 1)), jax.random.key(1)
    actions = saved.policy(obs, key)
    assert actions.shape == (5, 2, 3)
    assert actions.dtype == jnp.float32
    assert jnp.abs(actions).max() <= 0.1
    raw = saved.policy(obs, key, raw=True)
    assert raw.shape == (5, 6)
    assert jnp.abs(raw).max() > 0.5
    np.testing.assert_array_equal(saved.to_env(raw), actions)
    np.testing.assert_array_equal(saved.to_env(raw[0]), actions[0])
    assert saved.policy(obs[0], key).shape == (2, 3)
    with pytest.raises(ConfigError, match="actions: shape"):
        saved.to_env(raw[:, :5])


def test_a_policy_gives_the_structure_of_the_space(tmp_path):
    space = S.Dict({"a": S.Discrete(3, start=-1), "b": S.MultiBinary(2)})
    env = Acts(space, lambda action: action["a"] + action["b"].sum())
    config = bandit(env, total_timesteps=32 * 8 * 4, e_aux=0)
    result = run(config, out=tmp_path / "run", progress=False)
    assert result.metrics["episode_return"].max() <= 3
    saved = load_run(tmp_path / "run", env=env)
    actions = saved.policy(jnp.zeros((64, 1)), jax.random.key(1))
    assert set(actions) == {"a", "b"}
    assert set(np.asarray(actions["a"]).tolist()) == {-1, 0, 1}
    assert actions["b"].shape == (64, 2)
    assert actions["b"].dtype == jnp.int8


def test_observations_of_several_parts_reach_the_policy(tmp_path):
    space = S.Dict({"where": S.Discrete(3, start=-1), "speed": S.Box(-1, 1, (2,))})
    env = Sees(space, {"where": INT(1), "speed": jnp.float32([0.5, -0.5])})
    run(bandit(env, total_timesteps=32 * 8 * 4, e_aux=0), out=tmp_path / "run", progress=False)
    saved = load_run(tmp_path / "run", env=env)
    one = saved.policy(env.seen, jax.random.key(0), greedy=True)
    batch = jax.tree.map(lambda x: jnp.stack([x] * 3), env.seen)
    np.testing.assert_array_equal(saved.policy(batch, jax.random.key(0), greedy=True), [one] * 3)
    with pytest.raises(ConfigError, match="obs: "):
        saved.policy({"where": INT(1)}, jax.random.key(0))


def test_squashed_actions_reach_the_bounds_and_not_more():
    env = make_env("Pendulum-v1", scale_actions=True, squash_actions=True)  # torque -2 to 2
    assert env.action.squashed
    for u in (-9.0, -0.3, 0.0, 1.0):
        np.testing.assert_allclose(env.to_env(jnp.float32([u])), [2 * np.tanh(u)], rtol=1e-6)
    with pytest.raises(ConfigError, match="tanh cannot be used with .*, whose actions have no"):
        make_env(Acts(S.Box(-np.inf, np.inf, (2,))), squash_actions=True)
