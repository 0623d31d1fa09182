"""Runs of more than 2^31 steps: what counts them, on the host and in the program."""

import csv
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppg_jax
from ppg_jax import Config, ConfigError
from ppg_jax.execution.layout import Layout
from ppg_jax.execution.segments import SEGMENT_STEPS, Pace, Start, _segment_phases, train_segments
from ppg_jax.runs.loggers import CsvLogger, read_metrics, scalars_by_step
from ppg_jax.runs.progress import _short

LIMIT = 2**31
SMALL = {
    "num_envs": 4, "num_steps": 8, "n_pi": 1, "num_minibatches": 1, "arch": "shared", "e_aux": 0,
    "network": {"hidden_sizes": (4,)},
}  # fmt: skip


@pytest.fixture
def large_iterations(monkeypatch):
    """Iterations that count as 2^29 steps, though they have 32: four are 2^31."""
    monkeypatch.setattr(Config, "steps_per_iteration", property(lambda _: 2**29))


def rows(folder, name="metrics.csv"):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def test_a_run_is_resumed_across_the_limit(tmp_path, large_iterations):
    """The first part counts in the program, the rest and the whole on the host: the same files."""
    options = {"progress": False, "cache": False}
    config = Config(**SMALL, seeds=2, total_timesteps=3 * 2**29)
    ppg_jax.run(config, out=tmp_path / "parts", evaluate_every=1, eval_episodes=2, **options)
    parts = ppg_jax.resume(
        tmp_path / "parts", total_timesteps=6 * 2**29, evaluate_every=1, eval_episodes=2,
        log=["jsonl"], **options,
    )  # fmt: skip
    longer = config.replace(total_timesteps=6 * 2**29)
    whole = ppg_jax.run(longer, out=tmp_path / "whole", **options)
    steps = 2**29 * np.arange(1, 7)
    for result in (parts, whole):
        assert result.finished
        assert result.metrics["env_steps"].dtype == np.int64
        np.testing.assert_array_equal(result.metrics["env_steps"], np.tile(steps, (2, 1)))
        assert result.env_steps_per_second * result.run_seconds == pytest.approx(12 * 2**29)
    assert list(parts.metrics) == list(whole.metrics)
    np.testing.assert_array_equal(parts.metrics["policy_loss"], whole.metrics["policy_loss"])
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert [int(row["env_steps"]) for row in rows(tmp_path / "whole")[::2]] == steps.tolist()
    evaluated = {int(row["env_steps"]) for row in rows(tmp_path / "parts", "evaluation.csv")}
    assert evaluated == set(steps.tolist())
    saved = ppg_jax.load_run(tmp_path / "parts")
    assert saved.metrics["env_steps"][1, -1] == 6 * 2**29
    assert '"env_steps": 3221225472' in (tmp_path / "parts" / "metrics.jsonl").read_text()


def test_a_sweep_counts_beyond(large_iterations):
    config = Config(**SMALL, total_timesteps=5 * 2**29)
    swept = ppg_jax.sweep(config, {"gamma": [0.9, 0.99]}, progress=False, cache=False)
    assert swept.metrics["env_steps"][..., -1].tolist() == [[5 * 2**29]] * 2
    assert swept.to_dataframe()["env_steps"].max() == 5 * 2**29


def test_a_state_near_the_limit_goes_on():
    """With the real size of an iteration: 2^26 iterations of 32 steps, and schedules near 0."""
    config = Config(**SMALL, lr_schedule="linear", total_timesteps=LIMIT + 4 * 32)
    done = config.num_iterations - 8
    state = ppg_jax.init(config, jax.random.key(0))
    state = jax.tree.map(lambda x: x[None], state.replace(iteration=jnp.int32(done)))
    before = jax.tree.map(np.asarray, state.params)
    layout = Layout("map", 1, 1, 1)
    *parts, last = train_segments(
        config, layout, config.hparams, Start(state, done), shared=True, pace=Pace(most_phases=2)
    )
    counted = np.concatenate([part.metrics["env_steps"][0] for part in (*parts, last)])
    np.testing.assert_array_equal(counted, LIMIT + 32 * np.arange(-3, 5))
    assert last.phases == config.num_phases == int(last.states[0].iteration[0])
    # The learning rate of the last iterations is 8, 7, ... 1 parts of 2^26 + 4. Adam's first step
    # is about the rate, and rounding takes most of such steps away.
    moved = max(
        np.abs(np.asarray(new)[0] - old[0]).max()
        for new, old in zip(
            jax.tree.leaves(last.states[0].params), jax.tree.leaves(before), strict=True
        )
    )
    assert moved < 36 / config.num_iterations


def test_what_the_pure_functions_count():
    """In 32 bits as long as it fits, and beyond that in iterations."""
    short = Config(**SMALL, total_timesteps=LIMIT - 32)
    long = short.replace(total_timesteps=LIMIT)
    for config, name in ((short, "env_steps"), (long, "iteration")):
        _, metrics = jax.eval_shape(ppg_jax.make_train(config), jax.random.key(0))
        assert {"env_steps", "iteration"} & set(metrics) == {name}
        assert (metrics[name].dtype, metrics[name].shape) == ("int32", (config.num_iterations,))
    grouped = long.replace(env_groups=2)
    _, metrics = jax.eval_shape(ppg_jax.make_train(grouped), jax.random.key(0))
    assert "env_steps" not in metrics
    state = ppg_jax.init(long, jax.random.key(0)).replace(iteration=jnp.int32(2**26 - 2))
    _, metrics = ppg_jax.train_phases(long, long.hparams, state, 3)
    counted = ppg_jax.env_steps(long, metrics)
    assert counted.dtype == np.int64
    assert counted.tolist() == [LIMIT - 32, LIMIT, LIMIT + 32]
    assert ppg_jax.env_steps(short, {"env_steps": jnp.int32([[32, 64]])}).tolist() == [[32, 64]]


def test_files_and_loggers_keep_the_number(tmp_path):
    config = Config(**SMALL | {"num_envs": 64}, total_timesteps=10**12)
    train = ppg_jax.make_train(config.replace(total_timesteps=512))
    names = jax.eval_shape(train, jax.random.key(0))
    steps = np.array([[10**12 - 32, 10**12]])
    metrics = dict.fromkeys(sorted(names[1]), np.float32([[0.5, 1.5]]))
    metrics |= {"env_steps": steps, "num_episodes": np.int32([[1, 2]])}
    CsvLogger(tmp_path / "m.csv").write(metrics, 0)
    read = read_metrics(tmp_path / "m.csv", config)
    assert {name: x.dtype for name, x in read.items()} == {n: x.dtype for n, x in metrics.items()}
    np.testing.assert_array_equal(read["env_steps"], steps)
    assert [step for step, _ in scalars_by_step(read)] == steps[0].tolist()
    assert [_short(x) for x in (10**12, 2.5e9)] == ["1.00T", "2.50G"]


@pytest.mark.parametrize("total", [10**9, 3 * 10**11, 10**12])
def test_segments_of_a_long_run_are_short(total):
    """Ctrl-C waits for one: not for a hundredth of a run of days."""
    for num_envs, n_pi in itertools.product((8, 1024), (1, 32)):
        sizes = {"num_envs": num_envs, "num_steps": 128, "n_pi": n_pi}
        config = Config(**SMALL | sizes, total_timesteps=total)
        phase_steps = n_pi * config.steps_per_iteration
        each = _segment_phases(config, 0, Pace())
        assert config.num_phases % each == 0
        assert each * phase_steps <= max(SEGMENT_STEPS, phase_steps)


def test_the_length_has_limits():
    assert Config(total_timesteps="1e12").num_iterations == 122_070_312
    with pytest.raises(ConfigError, match="2147483648 iterations of num_envs x num_steps 32; use"):
        Config(**SMALL, total_timesteps=2**31 * 32)
    assert Config(**SMALL, total_timesteps=2**31 * 32 - 1).num_iterations == 2**31 - 1
    with pytest.raises(ConfigError, match="total_timesteps: 10000000000000000"):
        Config(total_timesteps=10**16)
