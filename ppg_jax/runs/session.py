"""Training in one process: from the start or a checkpoint of a run to its end or a stop."""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chex
import jax

from ppg_jax.algorithm import build, replay_difference
from ppg_jax.config import Config, with_environment
from ppg_jax.execution import (
    ALONE,
    Layout,
    Plan,
    Processes,
    Segment,
    Start,
    gather,
    shard,
    train_segments,
    use_all_cores,
)
from ppg_jax.report import first_bad_iteration
from ppg_jax.runs.checkpoints import save_parameters
from ppg_jax.runs.evaluator import EvaluationOptions
from ppg_jax.runs.folder import finite_or_none, write_figure, write_summary
from ppg_jax.runs.interrupts import StopRequest
from ppg_jax.runs.loggers import Logger, check_logger
from ppg_jax.runs.progress import Display
from ppg_jax.runs.recorder import CheckpointOptions, Recorder
from ppg_jax.runs.result import Result
from ppg_jax.runs.together import whole, whole_policy
from ppg_jax.types import TrainState


def check_options(
    config: Config, log: Sequence[str | Logger], evaluation: EvaluationOptions, has_folder: bool
) -> None:
    """Checks the options before any file is written.

    Raises:
      ConfigError: a logger or a change of the environment is invalid.
    """
    for logger in log:
        if isinstance(logger, str):
            check_logger(logger, has_folder)
    for changes in evaluation.environments.values():
        build(with_environment(config, dict(changes)))


def shared_options(options: CheckpointOptions, evaluation: EvaluationOptions) -> dict[str, Any]:
    """Options that must be the same in all processes, because segments depend on them."""
    return {
        "checkpoint_every": options.every,
        "evaluate_every": evaluation.every,
        "eval_episodes": evaluation.episodes,
        "evaluate_on": {name: dict(x) for name, x in evaluation.environments.items()},
    }


def resolve(config: Config) -> Config:
    """The configuration with its networks' ``auto`` and defaults replaced by their values here.

    The fields that say how the replicas run are left to ``laid_out``. This also makes CPU cores
    JAX devices, which must come before JAX's first computation.

    Raises:
      ConfigError: the environment or the networks cannot be made.
    """
    use_all_cores()
    ppg = build(config)
    env, agent = ppg.env, ppg.agent
    are_categories = env.observation.categories is not None
    return config.replace(
        network=agent.network,
        observation_scale=None if are_categories else env.observation.scale,
    )


def laid_out(plan: Plan) -> Plan:
    """The plan, with its layout written into its configuration in place of ``auto``."""
    config, layout = plan.config, plan.layout
    config = config.replace(
        strategy=layout.strategy,
        # The number of threads changes no results, and the next machine may have fewer cores.
        devices=config.devices if layout.by_threads else layout.devices,
        devices_per_seed=layout.devices_per_seed,
        chunk_size=layout.chunk_size if layout.strategy == "chunk" else None,
    )
    return dataclasses.replace(plan, config=config)


def seed_keys(config: Config, processes: Processes = ALONE) -> chex.PRNGKey:
    """Random keys of the seeds, ``[S]``, or of those that this process trains."""
    rows = processes.rows(config.seeds)
    return jax.random.split(jax.random.key(config.seed), config.seeds)[rows.start : rows.stop]


def train_from(
    plan: Plan,
    start: chex.PRNGKey | Start,
    folder: Path | None,
    display: Display,
    recorder: Recorder,
    processes: Processes = ALONE,
) -> Result:
    """Trains from the start to the end or a stop, and writes the results to the folder.

    If there are several processes, the start has the seeds of this one, and only the first one has
    a folder.
    """
    config, layout = plan.config, plan.layout
    with StopRequest(display.note) as stop:
        display.note(_headline(config, layout, processes))
        if config.e_aux and not config.num_phases:
            display.note(
                f"warning: {config.num_iterations} iterations are fewer than one phase (n_pi "
                f"{config.n_pi}): no auxiliary phase will run"
            )
        _note_storage(config, display)
        segment = _train_until_stopped(plan, start, recorder, stop, processes)
        metrics = recorder.metrics
        result = Result(
            config=config,
            metrics=metrics,
            state=gather(segment.states, layout),
            compile_seconds=segment.compile_seconds,
            run_seconds=segment.run_seconds,
            first_bad_iteration=first_bad_iteration(metrics, config),
            finished=metrics["env_steps"].shape[1] == config.num_iterations,
            evaluations=recorder.evaluations,
        )
        spent = f"compiled in {result.compile_seconds:.1f} s, ran in {result.run_seconds:.1f} s"
        display.note(spent)
        policy = whole_policy(result.state, processes)
        if folder is not None:
            also = {"processes": processes.count} if processes.count > 1 else {}
            _write_results(folder, result, recorder, policy, also)
        processes.wait()
    result = dataclasses.replace(result, problems=tuple(recorder.problems))
    _warn(result, processes)
    return result


def _train_until_stopped(
    plan: Plan,
    start: chex.PRNGKey | Start,
    recorder: Recorder,
    stop: StopRequest,
    processes: Processes,
) -> Segment:
    """Trains and records every segment, and returns the last one."""
    config, layout = plan.config, plan.layout
    segment: Segment | None = None
    try:
        pace = dataclasses.replace(
            recorder.pace, compiled=stop.wait_for_segments, spent=plan.seconds
        )
        for segment in train_segments(
            config, layout, config.hparams, start, shared=True, pace=pace
        ):
            stop.passed(segment.run_seconds)
            segment = whole(segment, processes)
            recorder.take(segment)
            if any(processes.all(stop.requested)):
                break
        if segment is not None:
            recorder.save(segment)
    finally:
        recorder.close()
    if isinstance(start, Start) and segment is None:  # the run was already finished
        spent = start.compile_seconds, start.run_seconds
        segment = Segment({}, start.phases, True, shard(start.state, layout), *spent)
    assert segment is not None
    return segment


def _headline(config: Config, layout: Layout, processes: Processes) -> str:
    algorithm = "PPG" if config.e_aux else "PPO"
    device = jax.local_devices()[0]
    seeds = f"{config.seeds} seed" + ("s" if config.seeds > 1 else "")
    seeds += f" in {processes.count} processes" if processes.count > 1 else ""
    return (
        f"{algorithm} {config.arch} on {config.env_name}: {seeds} by {layout} x "
        f"{config.num_iterations} iterations of {config.steps_per_iteration:,} steps; compiling "
        f"for {device.device_kind}"
    )


def _note_storage(config: Config, display: Display) -> None:
    """Says what to expect of ``aux_storage``, if that is not what its name promises."""
    if config.aux_storage == "packed" and not build(config).packing.active:
        display.note(
            f"warning: aux_storage packed packs nothing: no component of {config.env_name}'s "
            "observations is always 0 or 1 in random play, or they are packed already"
        )
    if config.aux_storage == "replay" and (difference := replay_difference(config)):
        display.note(
            f"warning: aux_storage replay is not exact: {config.env_name} computes other "
            f"observations in another program, by up to {difference:.2g} in random play; the "
            "metric replay_difference measures it"
        )


def _warn(result: Result, processes: Processes) -> None:
    for seed, iteration in enumerate(result.first_bad_iteration):
        if iteration is not None and processes.first:
            warnings.warn(
                f"seed {seed}: the loss is NaN or infinite from iteration {iteration} on; the "
                "other seeds are not affected",
                RuntimeWarning,
                stacklevel=4,
            )
    for problem in result.problems:
        warnings.warn(problem, RuntimeWarning, stacklevel=4)


def _write_results(
    folder: Path, result: Result, recorder: Recorder, policy: TrainState, also: dict[str, int]
) -> None:
    """Writes the summary, the learning curve, and the parameters and observation statistics."""
    summary = also | {
        "finished": result.finished,
        "compile_seconds": round(result.compile_seconds, 3),
        "run_seconds": round(result.run_seconds, 3),
        "env_steps": int(result.metrics["env_steps"][:, -1].sum()),
        "env_steps_per_second": round(result.env_steps_per_second, 1),
        "final_episode_return": finite_or_none(result.final_returns),
        "first_bad_iteration": result.first_bad_iteration,
    }
    recorder.guard("summary.json", lambda: write_summary(folder, summary))
    curve = folder / "learning_curve.png"
    recorder.guard(curve.name, lambda: write_figure(curve, result.plot(), dpi=150))
    recorder.guard("parameters", lambda: save_parameters(folder, policy))
