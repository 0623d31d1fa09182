"""The policy that a user gets: traced, exported, of older runs, of environments without limits."""

import math
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from gymnax.environments.classic_control.cartpole import CartPole

import ppg_jax
from ppg_jax import Config, ConfigError, evaluate, load_run, resume, run
from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.ppg import build
from ppg_jax.cli.main import main
from ppg_jax.config.fields import FrozenMapping
from ppg_jax.envs.make import make_env
from ppg_jax.runs.loading import open_run
from tests import probes


def small(**changes):
    """Without auxiliary phases, which compile for long and leave nothing that plays."""
    fields = {
        "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "n_pi": 2, "e_aux": 0,
        "total_timesteps": 4 * 8 * 4, "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**fields | changes)


CASES = {
    "mlp": {"normalize_observations": True},
    "cnn": {"env": "Breakout-MinAtar", "network": {"encoder": "cnn", "hidden_sizes": (8,)}},
    "lstm": {"network": {"memory": "lstm", "hidden_sizes": (8,), "recall": ["action", "reward"]}},
    "continuous": {"env": "Pendulum-v1"},
}


@pytest.fixture(scope="module", params=CASES)
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / request.param
    run(small(**CASES[request.param]), out=folder, progress=False)
    return load_run(folder)


def observations(saved, number):
    env = build(saved.config).env
    keys = jax.random.split(jax.random.key(5), number)
    return jax.vmap(env.reset)(keys)[0].astype(env.given.dtype)


def arguments(saved, number):
    """What an exported policy is called with, and the same for ``policy``."""
    obs, key = observations(saved, number), jax.random.key(1)
    if saved.config.network.memory == "none":
        return (obs, jax.random.key_data(key)), (obs, key), {}
    memory, starts = saved.initial_memory(number), jnp.arange(number) % 2 == 0
    previous = {"action": jnp.zeros(number, jnp.int32), "reward": jnp.ones(number)}
    more = {"memory": memory, "starts": starts, "previous": previous}
    return (obs, jax.random.key_data(key), *more.values()), (obs, key), more


def test_a_policy_can_be_traced(saved):
    _, args, more = arguments(saved, 3)
    want = saved.policy(*args, **more)
    for loaded in (saved, open_run(saved.directory)):  # its parameters are read while tracing
        found = jax.jit(lambda *a, run=loaded: run.policy(*a, **more))(*args)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)
    if not more:
        exported = jax.export.export(jax.jit(saved.policy))(*args)
        np.testing.assert_allclose(exported.call(*args), want, rtol=1e-5)


ELSEWHERE = """
import sys
for name in ("ppg_jax", "flax", "gymnax", "optax", "orbax"):
    sys.modules[name] = None
import jax, numpy as np
from pathlib import Path
program = jax.export.deserialize(bytearray(Path(sys.argv[1]).read_bytes()))
given = np.load(sys.argv[2])
for number in (2, 5):
    names = sorted(n for n in given.files if n.startswith(f"{number}/"))
    leaves = [given[n] for n in names]
    args, _ = jax.tree.unflatten(program.in_tree, leaves)
    found = jax.tree.leaves(program.call(*args))
    np.savez(sys.argv[2] + f".{number}", *found)
"""


def test_an_exported_policy_runs_without_this_package(saved, tmp_path):
    path = saved.export(tmp_path / "policy.jax")
    assert path == tmp_path / "policy.jax"
    given, want = {}, {}
    for number in (2, 5):
        program_args, args, more = arguments(saved, number)
        leaves = jax.tree.leaves(program_args)
        given |= {f"{number}/{i:03}": np.asarray(x) for i, x in enumerate(leaves)}
        want[number] = jax.tree.leaves(saved.policy(*args, **more))
    np.savez(tmp_path / "given.npz", **given)
    (tmp_path / "elsewhere.py").write_text(textwrap.dedent(ELSEWHERE))
    command = [sys.executable, "elsewhere.py", "policy.jax", "given.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for number, leaves in want.items():
        with np.load(tmp_path / f"given.npz.{number}.npz") as found:
            for name, leaf in zip(found.files, leaves, strict=True):
                np.testing.assert_allclose(found[name], leaf, rtol=1e-5)


def test_what_cannot_be_exported_is_one_line(saved, tmp_path):
    for options, words in (
        ({"platforms": ["cpu", "abacus"]}, "platforms: "),
        ({"platforms": "cpu"}, "platforms: 'cpu'"),
        ({"platforms": []}, "platforms: "),
        ({"seed": 1}, "seed: 1 is invalid; the run has seeds 0 to 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            saved.export(tmp_path / "x", **options)
    with pytest.raises(ConfigError, match="path: .* cannot be written"):
        saved.export(tmp_path, platforms=["cpu"], greedy=True)


def playing(saved, **wrong):
    """``evaluate`` with some of its arguments wrong."""
    fields = {
        "config": saved.config, "params": jax.tree.map(lambda x: x[0], saved.parameters[0]),
        "obs_stats": None, "key": jax.random.key(0), "num_episodes": 1,
    }  # fmt: skip
    return evaluate(**fields | wrong)


WRONG = {
    "episodes 0": (lambda s: s.evaluate(0), "episodes: 0"),
    "episodes -1": (lambda s: s.evaluate(episodes=-1), "episodes: -1"),
    "episodes 2.5": (lambda s: s.evaluate(2.5), "episodes: 2.5"),
    "episodes text": (lambda s: s.evaluate("3"), "episodes: '3'"),
    "evaluation seed": (lambda s: s.evaluate(1, seed=-1), "seed: -1"),
    "max_steps": (lambda s: s.evaluate(1, max_steps=0), "max_steps: 0"),
    "env_params": (lambda s: s.evaluate(1, env_params=3), "env_params"),
    "many episodes": (lambda s: s.evaluate(2**40), "episodes: 1099511627776"),
    "many steps": (lambda s: s.evaluate(1, max_steps=2**31), "max_steps: 2147483648"),
    "frames": (lambda s: s.render("x.gif", max_steps=0), "max_steps: 0"),
    "many frames": (lambda s: s.render("x.gif", max_steps=10**9), "max_steps: 1000000000"),
    "no file": (lambda s: s.render(None), "file: None"),
    "export to a number": (lambda s: s.export(3), "path: 3"),
    "no platforms": (lambda s: s.export("x", platforms=None), "platforms: None"),
    "no place": (lambda s: load_run(3), "DIR: 3"),
    "film": (lambda s: s.render("x.mp4"), "file: 'x.mp4' is invalid; its name should end in .gif"),
    "no folder": (lambda s: s.render("no/such/x.gif"), "file: no/such is not a folder"),
    "episode": (lambda s: s.render("x.gif", episode=-1), "episode: -1"),
    "seed text": (lambda s: s.policy(np.zeros(4), jax.random.key(0), seed="a"), "seed: 'a'"),
    "seed 0.5": (lambda s: s.policy(np.zeros(4), jax.random.key(0), seed=0.5), "seed: 0.5"),
    "obs text": (lambda s: s.policy("abc", jax.random.key(0)), "obs: "),
    "obs none": (lambda s: s.policy(None, jax.random.key(0)), "obs: "),
    "obs shape": (lambda s: s.policy(np.zeros((2, 3)), jax.random.key(0)), r"obs: shape \(2, 3\)"),
    "obs nothing": (
        lambda s: s.policy(np.zeros((0, 4)), jax.random.key(0)),
        r"obs: shape \(0, 4\)",
    ),
    "obs complex": (lambda s: s.policy(np.zeros(4, complex), jax.random.key(0)), "obs: ndarray"),
    "memory": (lambda s: s.policy(np.zeros(4), jax.random.key(0), memory=3), "memory: "),
    "memory -1": (lambda s: s.initial_memory(-1), "num_envs: -1"),
    "memory 2.5": (lambda s: s.initial_memory(2.5), "num_envs: 2.5"),
    "starts text": (lambda s: s.policy(np.zeros(4), jax.random.key(0), starts="a"), "starts: str"),
    "starts": (
        lambda s: s.policy(np.zeros((3, 4)), jax.random.key(0), starts=np.zeros(2)),
        r"starts: shape \(2,\) is invalid; it should be \(3,\)",
    ),
    "key 3": (lambda s: s.policy(np.zeros(4), 3), "key: int"),
    "key text": (lambda s: s.policy(np.zeros(4), "a"), "key: str"),
    "no key": (lambda s: s.policy(np.zeros(4), None), "key: NoneType"),
    "keys": (
        lambda s: s.policy(np.zeros(4), jax.random.split(jax.random.key(0))),
        r"key: .*\(2,\)",
    ),
    "plain key": (lambda s: playing(s, key=0), "key: int"),
    "plain episodes": (lambda s: playing(s, num_episodes=0), "num_episodes: 0"),
    "plain steps": (lambda s: playing(s, max_steps=0), "max_steps: 0"),
    "plain config": (lambda s: playing(s, config={}), "config: dict"),
    "plain params": (lambda s: playing(s, params=3), "params: the structure or a shape is invalid"),
    "plain seeds": (
        lambda s: playing(s, params=s.parameters[0]),
        "params: the structure or a shape is invalid",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_python_is_checked_as_the_command_line_is(cartpole, name):
    call, words = WRONG[name]
    with pytest.raises(ConfigError, match=words) as caught:
        call(cartpole)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "cartpole"
    run(small(), out=folder, progress=False, log=["jsonl"])
    return load_run(folder)


def test_a_loaded_run_needs_its_folder_no_more(tmp_path):
    import shutil

    run(small(), out=tmp_path / "run", progress=False)
    loaded = load_run(tmp_path / "run")
    want = load_run(tmp_path / "run").policy(np.zeros(4), jax.random.key(0))
    shutil.rmtree(tmp_path / "run")
    np.testing.assert_array_equal(loaded.policy(np.zeros(4), jax.random.key(0)), want)


def test_what_keys_may_be(cartpole):
    obs, key = np.zeros((3, 4)), jax.random.key(7)
    want = cartpole.policy(obs, key)
    np.testing.assert_array_equal(cartpole.policy(obs, jax.random.PRNGKey(7)), want)
    greedy = cartpole.policy(obs, key, greedy=True)
    np.testing.assert_array_equal(cartpole.policy(obs, None, greedy=True), greedy)


def test_a_film_cannot_be_a_folder(cartpole, tmp_path):
    pytest.importorskip("pygame")
    (tmp_path / "x.gif").mkdir()
    with pytest.raises(ConfigError, match="file: .* cannot be written"):
        cartpole.render(tmp_path / "x.gif", max_steps=2)


def as_older(folder):
    """A run's folder as a package wrote it that had no such fields."""
    fields = yaml.safe_load((folder / "config.yaml").read_text())
    del fields["scale_actions"], fields["observation_scale"], fields["network"]["image_layout"]
    (folder / "config.yaml").write_text(yaml.safe_dump(fields))


def test_older_runs_play_as_they_did(tmp_path):
    run(small(env="Pendulum-v1", scale_actions=False), out=tmp_path / "run", progress=False)
    want = load_run(tmp_path / "run").evaluate(4)[0]
    as_older(tmp_path / "run")
    loaded = load_run(tmp_path / "run")
    assert not loaded.config.scale_actions
    np.testing.assert_array_equal(loaded.evaluate(4)[0], want)


class Bytes(probes.Probe):
    """A vector of floats up to 255, which older packages divided by that."""

    def observation_space(self, params):
        from gymnax.environments import spaces

        return spaces.Box(0, 255, (1,), jnp.float32)

    def first_obs(self, key):
        return jax.random.uniform(key, (1,)) * 255


def test_older_runs_see_as_they_did(tmp_path):
    run(small(env=Bytes()), out=tmp_path / "run", progress=False)
    assert load_run(tmp_path / "run", env=Bytes()).config.observation_scale == 1.0
    as_older(tmp_path / "run")
    assert load_run(tmp_path / "run", env=Bytes()).config.observation_scale == 255.0


class HeavyPole(CartPole):
    """Inherits gymnax's name, and ends an episode after three steps."""

    def step_env(self, key, state, action, params):
        obs, state, reward, _, info = super().step_env(key, state, action, params)
        return obs, state, reward, state.time >= 3, info


def test_an_object_is_not_taken_for_an_environment_of_its_name(tmp_path, capsys):
    folder = tmp_path / "run"
    assert HeavyPole().name == "CartPole-v1"
    run(small(env=HeavyPole()), out=folder, progress=False, checkpoint_every=1)
    assert yaml.safe_load((folder / "config.yaml").read_text())["env"] == "<object CartPole-v1>"
    for ask in (lambda: load_run(folder).evaluate(4), lambda: resume(folder, progress=False)):
        with pytest.raises(ConfigError, match=r"was an object \(CartPole-v1\).* env=\.\.\."):
            ask()
    for argv in (["eval", str(folder)], ["train", "--resume", str(folder)]):
        assert main(argv) == 2
        assert "was an object" in capsys.readouterr().err
    loaded = load_run(folder, env=HeavyPole())
    assert loaded.evaluate(4)[1].max() == 3
    assert loaded.config.env_name == "CartPole-v1"
    assert main(["plot", str(folder), "--out", str(tmp_path / "figures")]) == 0
    assert "CartPole-v1" in capsys.readouterr().out
    # As an older package wrote it: by its name, and a word in the first line.
    text = (folder / "config.yaml").read_text().replace("<object CartPole-v1>", "CartPole-v1")
    assert text.startswith("# The environment was an object")
    (folder / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="was an object"):
        load_run(folder).evaluate(4)
    assert resume(folder, env=HeavyPole(), progress=False).finished


def test_a_run_does_not_go_on_with_an_object_of_its_environments_name(tmp_path):
    folder = tmp_path / "run"
    run(small(), out=folder, progress=False, checkpoint_every=1)
    with pytest.raises(ConfigError, match=r"env \('CartPole-v1' to '<object CartPole-v1>'\)"):
        resume(folder, env=HeavyPole(), total_timesteps=512, progress=False)


def test_an_environment_by_the_place_of_its_class(tmp_path):
    env = "tests.probes:ActionMustMatch"
    result = run(small(env=env), out=tmp_path / "run", progress=False)
    assert result.config.env_name == "ActionMustMatch"
    assert load_run(tmp_path / "run").config.env == env
    assert set(np.unique(load_run(tmp_path / "run").evaluate(8)[0])) <= {-1.0, 1.0}


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("no.such.module:Env", "cannot be imported: ModuleNotFoundError"),
        ("tests.probes:NoSuch", "cannot be imported: AttributeError"),
        ("os:system", "is not an environment; it should be a class with step_env and reset_env"),
        ("tests.probes:State", "is not an environment"),
        ("tests.probes_that_exit:Env", "cannot be imported: SystemExit"),
        ("tests.probes:Exits", "cannot be made with env_kwargs .*SystemExit"),
        ("tests.probes:", "cannot be imported"),
        (":Probe", "cannot be imported"),
        ("Mine-v0", r"package.module:Class, or from Python an object, Config\(env=MyEnv\(\)\)"),
    ],
)
def test_places_that_name_no_environment(env, words):
    with pytest.raises(ConfigError, match=words) as caught:
        make_env(env)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be made with env_kwargs"):
        make_env("tests.probes:Probe", env_kwargs=FrozenMapping({"size": 3}))


class Endless(probes.Probe):
    """Never ends; its time limit is what it is made with."""

    length = 2**30

    def __init__(self, limit):
        self.limit = limit

    @property
    def default_params(self):
        if self.limit == "missing":
            return NoLimit()
        return probes.Params(max_steps_in_episode=self.limit)


@probes.struct.dataclass
class NoLimit:
    pass


@pytest.mark.parametrize("limit", [None, math.inf, 2**31, 1e12, "missing", np.float32("inf")])
def test_no_time_limit(limit):
    env = make_env(Endless(limit))
    assert env.max_episode_steps is None
    _, state = env.reset(jax.random.key(0))
    result = env.step(jax.random.key(0), state, jnp.int32(0))
    assert not result.truncated
    train = ppg_jax.make_train(small(env=Endless(limit)))
    jax.eval_shape(train, jax.random.key(0))


@pytest.mark.parametrize("limit", [None, math.inf, 2**31, "none", 1e10])
def test_no_time_limit_by_a_parameter(limit):
    env = make_env("CartPole-v1", FrozenMapping({"max_steps_in_episode": limit}))
    assert env.max_episode_steps is None
    config = Config(env_params={"max_steps_in_episode": limit})
    assert build(config).env.max_episode_steps is None


def test_part_of_a_step_is_one():
    env = make_env("CartPole-v1", FrozenMapping({"max_steps_in_episode": 2.5}))
    assert env.max_episode_steps == 3


@pytest.mark.parametrize("limit", [0, -1, math.nan, "soon"])
def test_a_time_limit_is_a_number_of_steps(limit):
    with pytest.raises(ConfigError, match=r"env_params.max_steps_in_episode: .* at least 1"):
        make_env("CartPole-v1", FrozenMapping({"max_steps_in_episode": limit}))


@pytest.mark.parametrize("text", [".inf", "none", "null", "1e12", "2147483648"])
def test_no_time_limit_from_the_command_line(text, capsys):
    argv = ["train", "cartpole", "--env-params.max-steps-in-episode", text]
    argv += ["--total-timesteps", "1"]  # refused, after the environment's parameters were read
    assert main(argv) == 2
    assert "total_timesteps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limit", "asked", "played"), [(10**9, None, 10_000), (10**9, 7, 7), (5, None, 5), (None, 3, 3)]
)
def test_episodes_that_do_not_end_are_cut(limit, asked, played):
    config = small(env=Endless(limit))
    params = init(config, jax.random.key(0)).params

    def play(key):
        return evaluate(config, params, None, key, 2, max_steps=asked)

    returns, lengths, ended = jax.jit(play)(jax.random.key(0))
    np.testing.assert_array_equal(lengths, played)
    np.testing.assert_array_equal(ended, limit == 5)
    np.testing.assert_array_equal(returns, played)


def test_what_was_cut_is_told(tmp_path, capsys):
    folder = tmp_path / "run"
    run(small(env="tests.probes:Forever"), out=folder, progress=False,
        evaluate_every=2, eval_episodes=3)  # fmt: skip
    rows = (folder / "evaluation.csv").read_text().splitlines()
    assert all(row.endswith(",10000.0,3") for row in rows[1:])
    assert main(["eval", str(folder), "--episodes", "3", "--max-steps", "20"]) == 0
    out = capsys.readouterr().out
    assert "unfinished" in out
    assert "20.0" in out
    assert main(["eval", str(folder), "--max-steps", "0"]) == 2
    assert "max_steps: 0" in capsys.readouterr().err
