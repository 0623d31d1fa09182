"""Decides how many devices share the environments of one replica."""

import contextlib
from typing import Any

import jax

from ppg_jax.algorithm import build, init
from ppg_jax.backend import Backend, this_backend
from ppg_jax.config import Config, ConfigError
from ppg_jax.envs import Parallel
from ppg_jax.networks import POLICY, VALUE, Unroll
from ppg_jax.types import TrainState

LEAST_WORK = 1e10
"""Fewest floating-point operations of a gradient that ``auto`` leaves to each of the devices. An
accelerator needs some hundred microseconds for them, and some ten to exchange a small gradient."""


def share_seeds(
    config: Config,
    replicas: int,
    *,
    devices: int | None = None,
    backend: Backend | None = None,
) -> Config:
    """The configuration with ``devices_per_seed`` and ``env_groups`` as numbers.

    By itself it shares a replica among several devices only if there are more devices than
    replicas, on accelerators, and as long as each device has enough to compute (``LEAST_WORK``). On
    CPU one replica keeps several cores busy anyway.

    Args:
      config: configuration to train.
      replicas: number of replicas.
      devices: number of devices that there are; None: those of this process.
      backend: how the programs are built; None: as for the device that JAX computes on.

    Raises:
      ConfigError: the environment or the networks cannot be made.
    """
    backend, each = backend or this_backend(), config.devices_per_seed
    if each is None:
        spare = (config.devices or devices or jax.local_device_count()) // replicas
        each = 1 if backend.threads or spare < 2 else _devices_that_pay(config, spare, backend)
    return config.replace(devices_per_seed=each, env_groups=config.env_groups or each)


def _devices_that_pay(config: Config, spare: int, backend: Backend) -> int:
    """The largest number of devices that can share a replica and have enough to compute."""
    if not isinstance(build(config, backend).envs, Parallel):
        return 1
    enough = int(gradient_operations(config, backend) / LEAST_WORK)
    for each in range(min(spare, enough), 1, -1):
        with contextlib.suppress(ConfigError):  # sizes that cannot be shared equally
            config.replace(devices_per_seed=each, env_groups=config.env_groups or each)
            return each
    return 1


def gradient_operations(config: Config, backend: Backend) -> float:
    """About how many floating-point operations the gradient of a policy minibatch takes.

    Nothing is compiled.

    Raises:
      ConfigError: the environment or the networks cannot be made.
    """
    agent = build(config, backend).agent

    def forward(state: TrainState) -> Any:
        inputs = jax.tree.map(lambda x: x[None], state.envs.inputs)
        return agent.unroll(state.network, inputs, state.memory, Unroll((POLICY, VALUE)))

    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda key: init(config, key, backend=backend), key)
    cost = jax.jit(forward).lower(state).cost_analysis() or {}
    samples = config.steps_per_iteration / config.num_minibatches
    # The backward pass has two products for each one of the forward pass.
    return 3.0 * float(cost.get("flops", 0.0)) * samples / config.num_envs
