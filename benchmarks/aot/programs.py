"""What is compiled: a training of ours, or Rejax's PPO."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aot.counts import Unit

OUR_PPO, REJAX = "ppo-like-rejax/", "rejax/"
"""Begins of names, before a case of ``rejax_cases.py``."""
_ITERATIONS = 16


class Program(NamedTuple):
    """A whole run.

    Attributes:
      train: from a key to the results.
      units: of what it does, by name.
      env_steps: of one seed.
      must_hold: bytes of a device that one seed needs at least; None if unknown.
      devices: that share the environments of a seed.
      spec: of a program for several devices: how the results lie on a mesh with the axis ``env``,
        given the leading axes of a seed; None for a single device.
    """

    train: Callable[[Any], Any]
    units: Mapping[str, Unit]
    env_steps: int
    must_hold: int | None = None
    devices: int = 1
    spec: Callable[[bool], Any] | None = None


def program(name: str, changes: Mapping[str, Any], platform: str) -> Program:
    """A program by its name: a configuration, or one of the two PPOs that are compared.

    Args:
      name: as the command line has it.
      changes: of the fields of a configuration.
      platform: ``gpu``, ``tpu`` or ``cpu``.
    """
    if name.startswith(REJAX):
        return _rejax(_case(name))
    from ppg_jax.config import load_config

    if name.startswith(OUR_PPO):
        from against_rejax import our_config

        config = our_config(_case(name), "ppo")
    else:
        config = load_config(name, **changes)
    return _ours(config, platform)


def _case(name: str) -> dict[str, Any]:
    from rejax_cases import CASES, COMMON

    return COMMON | CASES[name.split("/")[1]] | {"seeds": 1, "iterations": _ITERATIONS}


def _ours(config: Any, platform: str) -> Program:
    import ppg_jax
    from aot.needed import must_hold

    backend, devices = ppg_jax.backend_for(platform), config.devices_per_seed or 1
    axis = {"env_axis": "env"} if devices > 1 else {}
    train = ppg_jax.make_train(config, backend=backend, **axis)
    epochs = config.e_pi if config.e_pi == config.e_v else config.e_pi + config.e_v
    units = {
        "rollout_step": Unit(("_scan_steps",), config.num_steps, within="collect"),
        "policy_minibatch": Unit(
            ("descend",), epochs * config.num_minibatches, within="policy_phase"
        ),
    }
    if config.e_aux and config.num_phases:
        per_scan = config.e_aux * config.num_aux_minibatches
        units["aux_minibatch"] = Unit(("descend",), per_scan, within="aux_epochs")
    steps = config.num_iterations * config.steps_per_iteration
    if devices == 1:
        return Program(train, units, steps, must_hold(config, backend))
    part = config.replace(
        num_envs=config.num_envs // devices,
        total_timesteps=steps // devices,
        devices_per_seed=None,
        env_groups=config.groups // devices,
    )
    spec = functools.partial(_spec, config)
    return Program(train, units, steps, must_hold(part, backend), devices, spec)


def _spec(config: Any, vmapped: bool) -> Any:
    """How a training's state and metrics lie on the devices."""
    import jax
    from jax.sharding import PartitionSpec

    from ppg_jax.algorithm import by_environment, init

    state = jax.eval_shape(lambda: init(config, jax.random.key(0)))
    own = PartitionSpec(None, "env") if vmapped else PartitionSpec("env")
    return by_environment(state, own=own, same=PartitionSpec()), PartitionSpec()


def _rejax(case: dict[str, Any]) -> Program:
    from rejax_worker import trainer

    init, iterations = trainer(case)
    units = {
        "rollout_step": Unit(("collect_trajectories",), case["num_steps"]),
        "policy_minibatch": Unit(("update_epoch",), case["num_minibatches"]),
    }
    steps = case["iterations"] * case["num_envs"] * case["num_steps"]
    return Program(lambda key: iterations(init(key)), units, steps)
