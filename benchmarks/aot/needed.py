"""How much memory a training must hold at least, from shapes alone."""

from typing import Any

import jax
from memory import activations, size

from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.ppg import PPG, build
from ppg_jax.algorithm.rollout import collect, make_batch
from ppg_jax.backend import Backend
from ppg_jax.config import Config
from ppg_jax.types import AuxBuffer, Batch, TrainState


def must_hold(config: Config, backend: Backend) -> int:
    """Bytes of one seed.

    That is the training state, what one rollout stores for the policy phase, the auxiliary phase's
    buffer, and the activations of the larger minibatch.

    Args:
      config: what is trained.
      backend: what the program is built for.
    """
    ppg, key = build(config, backend), jax.random.key(0)
    state = jax.eval_shape(lambda k: init(config, k, backend=backend), key)
    batch = jax.eval_shape(lambda s, k: _batch(ppg, s, k), state, key)
    needed = size(state) + size(batch) + _activations(config)
    if config.e_aux and config.num_phases:
        needed += config.n_pi * size(AuxBuffer.of(batch))
    return needed


def _batch(ppg: PPG, state: TrainState, key: Any) -> Batch:
    state = state.replace(obs_order=ppg.agent.initial_order(state.obs_stats))
    state, rollout, _ = collect(ppg, state, key)
    return make_batch(ppg, ppg.config.hparams, state, rollout)[1]


def _activations(config: Config) -> int:
    """Of a minibatch of the policy phase, or of the auxiliary phase if that is larger."""
    samples = config.steps_per_iteration // config.num_minibatches
    found = [activations(config, (1, samples))]
    if config.e_aux and config.num_phases:
        found.append(activations(config))
    return max(found)
