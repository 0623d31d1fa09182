"""The algorithm: a run as phases, pure from key to final state."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ppg_jax.algorithm.aux_phase import auxiliary_phase
from ppg_jax.algorithm.checks import check_given, check_key
from ppg_jax.algorithm.metrics import phase_metrics
from ppg_jax.algorithm.optimizer import init_optimizer, scheduled
from ppg_jax.algorithm.policy_phase import learn_from_batch
from ppg_jax.algorithm.rollout import collect_rollout, estimate_values, make_batch
from ppg_jax.config import (
    Config,
    Hyperparams,
    check_config,
    check_whole,
    same_environment,
)
from ppg_jax.envs import Environment, make_training_env, random_action, reset_envs, step_envs
from ppg_jax.functional import (
    RunningStats,
    adapted_scale,
    explained_variance,
    in_32_bits,
    init_stats,
    missing,
    squared_error,
    update_stats,
)
from ppg_jax.kernels import LiveComponents
from ppg_jax.networks import Agent, make_agent
from ppg_jax.types import (
    AuxBuffer,
    Batch,
    EnvsState,
    EpisodeStats,
    Metrics,
    RewardScaler,
    TrainState,
)


def traced_in_32_bits(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn(config, ...)`` of this package's public face, in 32 bits whatever the caller's are."""

    @functools.wraps(fn)
    def traced(config: Config, *args: Any, **kwargs: Any) -> Any:
        with in_32_bits():
            return fn(config, *args, **kwargs)

    return traced


def build(config: Config) -> tuple[Environment, Agent]:
    """The environment and the networks of a configuration.

    Raises:
      ConfigError: they do not exist or do not fit each other.
    """
    check_config(config)
    return _build(config, same_environment(config))


@functools.lru_cache(maxsize=64)
def _build(config: Config, _: Any) -> tuple[Environment, Agent]:
    with in_32_bits():  # as it is traced later
        env = make_training_env(config)
        return env, make_agent(config, env.observation, env.action)


@traced_in_32_bits
def init(config: Config, key: chex.PRNGKey) -> TrainState:
    """A run before its first step.

    Args:
      config: what to train.
      key: everything random in the run follows from it.

    Raises:
      ConfigError: the environment or the networks cannot be made.
    """
    check_key(key)
    env, agent = build(config)
    params_key, env_key, run_key, stats_key = jax.random.split(key, 4)
    params = agent.init(params_key)
    stats = _random_obs_stats(config, env, stats_key) if config.normalize_observations else None
    names = ["policy"] + ["value"] * (config.e_pi != config.e_v) + ["aux"] * (config.e_aux > 0)
    scaler = RewardScaler(stats=init_stats(), sums=jnp.zeros(config.num_envs, jnp.float32))
    return TrainState(
        params=params,
        opt_states={name: init_optimizer(params) for name in names},
        envs=reset_envs(env, env_key, config.num_envs, agent.network.recall),
        memory=agent.initial_memory(config.num_envs),
        reward_scaler=scaler if config.normalize_rewards else None,
        obs_stats=stats,
        seen_obs_stats=stats,
        key=run_key,
        iteration=jnp.int32(0),
        beta_scale=jnp.float32(1.0) if config.adapt_beta_clone else None,
    )


def _random_obs_stats(config: Config, env: Environment, key: chex.PRNGKey) -> RunningStats:
    """Statistics of one rollout's worth of random actions, in environments of their own.

    The first phase needs some: its policy would see raw observations, cut to [-10, 10].
    """
    reset_key, play_key = jax.random.split(key)

    def step(envs: EnvsState, key: chex.PRNGKey):
        action_key, env_key = jax.random.split(key)
        action_keys = jax.random.split(action_key, config.num_envs)
        actions = jax.vmap(lambda k: random_action(env.action, k))(action_keys)
        return step_envs(env, env_key, envs, actions)[0], envs.obs

    envs = reset_envs(env, reset_key, config.num_envs)
    _, observations = jax.lax.scan(step, envs, jax.random.split(play_key, config.num_steps))
    return update_stats(init_stats(env.observation.shape), observations)


@traced_in_32_bits
def train_phases(
    config: Config, hparams: Hyperparams, state: TrainState, n: int
) -> tuple[TrainState, Metrics]:
    """Trains for ``n`` whole phases: ``n_pi`` iterations each, and an auxiliary phase.

    Several calls give the same numbers as one. ``config`` and ``n`` are static, the rest may be
    traced and mapped over.

    Args:
      config: what to train.
      hparams: scalars.
      state: of ``init`` or of an earlier call.
      n: phases, at least 1.

    Returns:
      The state after them, and metrics ``[n * n_pi]``.
    """
    check_given(hparams, state)
    n = check_whole("n", n, 1)
    env, agent = build(config)
    hparams = _at_run_time(hparams, state.key)

    def phase(state: TrainState, _: None):
        return _phase(config, hparams, env, agent, state)

    state, metrics = jax.lax.scan(phase, state, None, n)
    return state, jax.tree.map(lambda x: x.reshape(n * config.n_pi), metrics)


@traced_in_32_bits
def train_tail(
    config: Config, hparams: Hyperparams, state: TrainState
) -> tuple[TrainState, Metrics]:
    """The iterations after the last whole phase, which no auxiliary phase follows.

    Args:
      config: what to train; ``num_tail_iterations`` says how many.
      hparams: scalars.
      state: after ``num_phases`` phases.

    Returns:
      The final state, and metrics ``[num_tail_iterations]``.
    """
    check_given(hparams, state)
    env, agent = build(config)
    hparams = _at_run_time(hparams, state.key)
    tail = config.num_tail_iterations
    state, metrics, *_ = _iterations(config, hparams, env, agent, state, tail, keep=False)
    blank = jnp.full(tail, missing(), jnp.float32)
    return state, metrics | dict.fromkeys(phase_metrics(config), blank)


def make_train(config: Config, env: Any = None) -> Callable[..., tuple[TrainState, Metrics]]:
    """A whole run as one pure function, to be jitted and vmapped as you like.

    Args:
      config: what to train.
      env: a gymnax environment to use instead of ``config.env``.

    Returns:
      ``train(key, hparams=config.hparams) -> (TrainState, Metrics)``; metrics are
      ``[iterations]``.

    Raises:
      ConfigError: the environment or the networks cannot be made.
    """
    check_config(config)
    if env is not None:
        config = config.replace(env=env)
    build(config)

    def train(key: chex.PRNGKey, hparams: Hyperparams | None = None) -> tuple[TrainState, Metrics]:
        given = config.hparams if hparams is None else hparams
        state = init(config, key)
        parts = []
        if config.num_phases:
            state, metrics = train_phases(config, given, state, config.num_phases)
            parts.append(metrics)
        if config.num_tail_iterations:
            state, metrics = train_tail(config, given, state)
            parts.append(metrics)
        return state, jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)

    return train


def _at_run_time(hparams: Hyperparams, key: chex.PRNGKey) -> Hyperparams:
    """Float32 scalars that the compiler cannot fold into the program as constants.

    Folding changes rounding; without it built-in and traced values of the same hyperparameters
    give the same bits. An optimization barrier does not prevent it on jaxlib 0.11. This does: two
    squares never add up to 3 modulo 4, also when they overflow, but no compiler knows.
    """
    words = jax.random.key_data(key).reshape(-1)
    always = (words[0] * words[0] + words[-1] * words[-1]) % 4 != 3
    return jax.tree.map(lambda x: jnp.where(always, jnp.float32(x), jnp.nan), hparams)


def _phase(
    config: Config, hparams: Hyperparams, env: Environment, agent: Agent, state: TrainState
) -> tuple[TrainState, Metrics]:
    """One policy phase and the auxiliary phase after it; metrics ``[n_pi]``."""
    phase_number = state.iteration // config.n_pi
    keep = config.e_aux > 0
    state, metrics, buffer, live = _iterations(
        config, hparams, env, agent, state, config.n_pi, keep=keep
    )
    if not keep:
        return state, metrics
    rate = scheduled(
        hparams.aux_learning_rate, config.aux_lr_schedule, phase_number, config.num_phases
    )
    aux_key = _iteration_keys(state.key, state.iteration - 1)[2]
    beta_clone = hparams.beta_clone * (1.0 if state.beta_scale is None else state.beta_scale)
    params, opt_state, by_epoch = auxiliary_phase(
        config,
        dataclasses.replace(hparams, beta_clone=beta_clone),
        agent,
        state.params,
        state.opt_states["aux"],
        state.obs_stats,
        buffer,
        rate,
        aux_key,
        live,
    )
    measured = {name: x[-1] for name, x in by_epoch.items()}
    measured |= _value_loss_change(config, agent, state, params, buffer, live)
    state = state.replace(params=params, opt_states=state.opt_states | {"aux": opt_state})
    if state.beta_scale is not None:
        measured["beta_clone"] = jnp.asarray(beta_clone)
        scale = adapted_scale(state.beta_scale, measured["clone_kl"], hparams.clone_kl_target)
        state = state.replace(beta_scale=scale)
    blank = jnp.full(config.n_pi, missing(), jnp.float32)
    return state, metrics | {name: blank.at[-1].set(x) for name, x in measured.items()}


def _value_loss_change(
    config: Config,
    agent: Agent,
    before: TrainState,
    after: Any,
    buffer: AuxBuffer,
    live: LiveComponents | None,
) -> Metrics:
    """Halved value error on the phase's newest rollout, before and after the auxiliary phase."""
    newest = jax.tree.map(lambda x: x[-1], buffer)

    def loss(params: Any) -> chex.Array:
        values, _ = estimate_values(config, agent, params, before.obs_stats, newest, live)
        return 0.5 * squared_error(values, newest.value_targets)

    both = jax.lax.map(loss, jax.tree.map(lambda *x: jnp.stack(x), before.params, after))
    return {"value_loss_before_aux": both[0], "value_loss_after_aux": both[1]}


def _iteration_keys(key: chex.PRNGKey, iteration: chex.Array) -> chex.PRNGKey:
    """Keys for the rollout, the shuffling and (of a phase's last iteration) the auxiliary phase.

    A function of the iteration's number, so that a run in several calls draws what one draws.
    """
    return jax.random.split(jax.random.fold_in(key, iteration), 3)


def _iterations(
    config: Config,
    hparams: Hyperparams,
    env: Environment,
    agent: Agent,
    state: TrainState,
    n: int,
    *,
    keep: bool,
) -> tuple[TrainState, Metrics, AuxBuffer, LiveComponents | None]:
    """``n`` iterations of the policy phase; the auxiliary buffer is their stacked output.

    Here the statistics of observations catch up with what was seen, to stay frozen afterwards.
    Observations leave sorted, where that pays, by the order given last.
    """
    state = state.replace(obs_stats=state.seen_obs_stats)

    def iteration(carry: tuple[TrainState, LiveComponents | None], _: None):
        state, metrics, batch, live = _iteration(config, hparams, env, agent, *carry)
        record = AuxBuffer(
            batch.obs, batch.starts, batch.memory, batch.value_targets, batch.recalled
        )
        return (state, live), (metrics, record if keep else None)

    carry = state, agent.unsorted(state.obs_stats)
    (state, live), (metrics, buffer) = jax.lax.scan(iteration, carry, None, n)
    return state, metrics, buffer, live


def _iteration(
    config: Config,
    hparams: Hyperparams,
    env: Environment,
    agent: Agent,
    state: TrainState,
    live: LiveComponents | None,
) -> tuple[TrainState, Metrics, Batch, LiveComponents | None]:
    """One rollout and the epochs over it."""
    rollout_key, shuffle_key, _ = _iteration_keys(state.key, state.iteration)
    params, frozen = state.params, state.obs_stats
    envs, memory, rollout, episodes = collect_rollout(
        config, env, agent, params, frozen, state.envs, state.memory, rollout_key
    )
    seen_obs_stats = state.seen_obs_stats and update_stats(state.seen_obs_stats, rollout.obs)
    live, obs = agent.sort_observations(live, rollout.obs)
    rollout = rollout.replace(obs=obs)
    batch, scaler, value_memory = make_batch(
        config, hparams, agent, params, frozen, state.reward_scaler, rollout, live
    )
    rate = scheduled(
        hparams.learning_rate, config.lr_schedule, state.iteration, config.num_iterations
    )
    params, opt_states, metrics = learn_from_batch(
        config, hparams, agent, params, state.opt_states, frozen, batch, rate, shuffle_key, live
    )
    metrics |= _rollout_metrics(config, state.iteration, episodes, batch)
    state = state.replace(
        params=params,
        opt_states=opt_states,
        envs=envs,
        memory=memory | value_memory | {"policy_net": memory["policy_net"]},
        reward_scaler=scaler,
        seen_obs_stats=seen_obs_stats,
        iteration=state.iteration + 1,
    )
    return state, metrics, batch, live


def _rollout_metrics(
    config: Config, iteration: chex.Array, episodes: EpisodeStats, batch: Batch
) -> Metrics:
    """Raw returns and lengths of the episodes that ended (NaN if none), and how values did."""
    count = jnp.maximum(episodes.count, 1).astype(jnp.float32)

    def mean(total: chex.Array) -> chex.Array:
        return jnp.where(episodes.count > 0, total / count, missing())

    return {
        "env_steps": (iteration + 1) * config.steps_per_iteration,
        "episode_return": mean(episodes.return_sum),
        "episode_length": mean(episodes.length_sum.astype(jnp.float32)),
        "num_episodes": episodes.count,
        "explained_variance": explained_variance(batch.old_values, batch.value_targets),
    }
