"""One seed on several devices: how many, the same training, one exchange for each minibatch."""

import numpy as np
import pytest

import ppg_jax
from ppg_jax.backend import CPU, GPU
from ppg_jax.execution import sharing
from ppg_jax.execution.layout import lay_out, possible_layouts
from ppg_jax.execution.segments import largest_program
from ppg_jax.execution.sharing import gradient_operations, share_seeds
from ppg_jax.runs.resume import changed_config

SMALL = {
    "env": "CartPole-v1", "num_envs": 8, "num_steps": 8, "num_minibatches": 2, "n_pi": 2,
    "e_aux": 1, "num_aux_minibatches": 2, "total_timesteps": 5 * 8 * 8,
    "network": {"hidden_sizes": [8]}, "normalize_observations": True,
    "normalize_advantages": "minibatch", "hparams": {"adam_eps": 1e-3},
}  # fmt: skip


def config_of(**changes):
    return ppg_jax.Config(**SMALL | changes)


def shared(config, replicas, devices, backend=GPU):
    found = share_seeds(config, replicas, devices=devices, backend=backend)
    return found.devices_per_seed, found.env_groups


def test_operations_of_a_gradient():
    """Two layers of 64, two networks: 2 x 3 products with all weights, for each sample."""
    config = config_of(network={"hidden_sizes": [64, 64]})
    weights = 2 * (4 * 64 + 64 * 64) + 64 * 2 + 64
    samples = 8 * 8 / 2
    assert gradient_operations(config, GPU) == pytest.approx(6 * weights * samples, rel=0.2)


def test_small_work_stays_on_one_device():
    assert shared(config_of(), 1, 8) == (1, 1)


def test_seeds_are_shared_where_there_are_more_devices_and_it_pays(monkeypatch):
    monkeypatch.setattr(sharing, "LEAST_WORK", 1.0)
    assert shared(config_of(), 1, 4) == (4, 4)
    assert shared(config_of(), 2, 4) == (2, 2)
    assert shared(config_of(), 3, 8) == (2, 2)
    assert shared(config_of(), 4, 4) == (1, 1)
    assert shared(config_of(num_minibatches=4), 1, 4) == (2, 2)  # 8 environments in 4 minibatches
    assert shared(config_of(env_groups=2), 1, 4) == (2, 2)
    assert shared(config_of(devices=2), 1, 4) == (2, 2)
    assert shared(config_of(devices_per_seed=1, env_groups=4), 1, 4) == (1, 4)
    assert shared(config_of(), 1, 4, CPU) == (1, 1)
    monkeypatch.setattr(sharing, "LEAST_WORK", gradient_operations(config_of(), GPU) / 2.5)
    assert shared(config_of(), 1, 8) == (2, 2)  # enough work for two and a half


@pytest.mark.parametrize(
    ("replicas", "changes", "shown"),
    [
        (1, {}, "map on 2 devices, 2 for a seed"),
        (3, {}, "map on 2 devices, 2 for a seed"),
        (3, {"strategy": "vmap"}, "vmap on 2 devices, 2 for a seed"),
        (3, {"strategy": "chunk", "chunk_size": 2}, "chunk of 2 on 2 devices, 2 for a seed"),
    ],
)
def test_layouts(replicas, changes, shown):
    config = config_of(devices_per_seed=2, **changes)
    layout = possible_layouts(config, replicas, cores=2)[0]
    assert str(layout) == shown
    assert layout.batch_size * layout.num_batches >= replicas
    assert not layout.by_threads


def test_more_devices_for_a_seed_than_there_are():
    with pytest.raises(ppg_jax.ConfigError, match=r"^devices_per_seed: 4 is invalid; JAX has 2"):
        lay_out(config_of(devices_per_seed=4), 1)


def test_a_run_on_two_devices_a_seed(tmp_path):
    """The same numbers to rounding as on one, in batches; it resumes on one device."""
    config = config_of(env_groups=2, devices_per_seed=1)
    alone = ppg_jax.run(config, seeds=3, progress=False)
    config = config_of(devices_per_seed=2, strategy="chunk", chunk_size=2)
    stopped = ppg_jax.run(
        config.replace(total_timesteps=4 * 64), seeds=3, progress=False, out=tmp_path / "run"
    )
    assert (stopped.config.devices_per_seed, stopped.config.env_groups) == (2, 2)
    here = {"devices_per_seed": 1, "devices": None, "strategy": "auto", "chunk_size": None}
    result = ppg_jax.resume(tmp_path / "run", total_timesteps=5 * 64, progress=False, **here)
    assert result.finished
    assert result.config.env_groups == 2
    for name, x in alone.metrics.items():
        np.testing.assert_allclose(result.metrics[name], x, rtol=1e-2, atol=1e-4, err_msg=name)


def test_groups_of_an_older_run_stay():
    """A run that knows no groups has one, however many devices there are."""
    before = config_of()
    assert changed_config(before, {}).env_groups == 1
    with pytest.raises(ppg_jax.ConfigError, match="^env_groups: 1 cannot be shared by devices_per"):
        changed_config(before, {"devices_per_seed": 2})
    with pytest.raises(ppg_jax.ConfigError, match=r"cannot change: env_groups \(1 to 2\)"):
        changed_config(before, {"env_groups": 2})


def test_a_minibatch_has_one_exchange():
    """In the program before it is compiled: loops over minibatches exchange one vector a step."""
    config = config_of(devices_per_seed=2, e_v=3, num_aux_minibatches=4)
    program, *arguments = largest_program(config, lay_out(config, 1), True)
    traced = program.trace(*arguments)
    exchanges: dict[int, int] = {}
    for length, body in _loops(traced.jaxpr):
        exchanges[length] = max(exchanges.get(length, 0), _exchanges(body))
    # Value epochs 3 x 2 minibatches, auxiliary epochs 4; rollouts have 8 steps.
    assert exchanges[6] == exchanges[4] == 1
    assert exchanges[8] == 0


def _loops(jaxpr):
    for equation in jaxpr.eqns:
        for inner in _inside(equation):
            if equation.primitive.name == "scan":
                yield equation.params["length"], inner
            yield from _loops(inner)


def _exchanges(jaxpr):
    """Of a loop's body, without loops inside of it."""
    own = sum(equation.primitive.name.startswith(("psum", "pmax")) for equation in jaxpr.eqns)
    others = [equation for equation in jaxpr.eqns if equation.primitive.name != "scan"]
    return own + sum(_exchanges(inner) for equation in others for inner in _inside(equation))


def _inside(equation):
    for value in equation.params.values():
        for part in value if isinstance(value, tuple) else (value,):
            inner = getattr(part, "jaxpr", part)
            if hasattr(inner, "eqns"):
                yield inner
