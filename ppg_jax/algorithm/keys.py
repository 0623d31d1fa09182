"""Random keys by the number of an iteration, for what is drawn now and what is drawn again."""

import chex
import jax


def iteration_keys(key: chex.PRNGKey, iteration: chex.Array) -> chex.PRNGKey:
    """Keys for the rollout, for shuffling, and for the auxiliary phase (in its last iteration).

    They depend on the iteration's number only. So a run in several calls draws the same numbers as
    a run in one call.
    """
    return jax.random.split(jax.random.fold_in(key, iteration), 3)


def rollout_keys(key: chex.PRNGKey, num_steps: int) -> tuple[chex.PRNGKey, chex.PRNGKey]:
    """Keys of a rollout's steps, for the actions and for the environments: ``[T]`` each."""
    action_key, env_key = jax.random.split(key)
    return jax.random.split(action_key, num_steps), jax.random.split(env_key, num_steps)


def env_keys(key: chex.PRNGKey, num_steps: int) -> chex.PRNGKey:
    """The second part of ``rollout_keys``, ``[T]``."""
    return rollout_keys(key, num_steps)[1]
