"""Training in one process: from the start or a checkpoint of a run to its end or a stop."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import chex
import jax

from ppg_jax.algorithm import build, replay_difference
from ppg_jax.config import Config, Hyperparams
from ppg_jax.execution import (
    ALONE,
    Layout,
    Pace,
    Plan,
    Processes,
    Segment,
    Start,
    WarmStart,
    gather,
    shard,
    train_segments,
    use_all_cores,
)
from ppg_jax.runs.checkpoints import save_parameters
from ppg_jax.runs.folder import finite_or_none, write_figure, write_summary
from ppg_jax.runs.interrupts import StopRequest
from ppg_jax.runs.progress import Display
from ppg_jax.runs.recorder import Recorder
from ppg_jax.runs.result import Result
from ppg_jax.runs.stopping import Stopping
from ppg_jax.runs.together import whole, whole_policy
from ppg_jax.runs.warm_start import Taken, read_record
from ppg_jax.types import TrainState


@dataclasses.dataclass(frozen=True)
class Session:
    """What accompanies the training of a run in this process.

    Attributes:
      folder: run folder; None: this process writes no results.
      display: display for progress and warnings.
      recorder: what is called after each segment.
      stopping: what may end the run before its last iteration.
      pace: lengths of the segments.
      processes: the processes that train the run together.
    """

    folder: Path | None
    display: Display
    recorder: Recorder
    stopping: Stopping
    pace: Pace
    processes: Processes = ALONE


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


def first_start(
    config: Config, taken: Taken | None, display: Display, processes: Processes = ALONE
) -> chex.PRNGKey | WarmStart:
    """What a run starts from: random keys of its seeds, ``[S]``, and what is taken from another.

    If there are several processes, both are those of the seeds that this one trains.
    """
    keys, rows = seed_keys(config, processes), processes.rows(config.seeds)
    if taken is None:
        return keys
    for line in taken.notes:
        display.note(line)
    return WarmStart(keys, jax.tree.map(lambda x: x[rows.start : rows.stop], taken.learned))


def train_from(plan: Plan, start: chex.PRNGKey | WarmStart | Start, session: Session) -> Result:
    """Trains from the start to the end or a stop, and writes the results to the folder.

    If there are several processes, the start has the seeds of this one. What ``on_segment`` raises
    ends the run in order, and is kept in ``session.stopping``.
    """
    config, display, recorder = plan.config, session.display, session.recorder
    processes = session.processes
    with StopRequest(display.note) as stop:
        display.note(_headline(config, plan.layout, processes))
        if config.e_aux and not config.num_phases:
            display.note(
                f"warning: {config.num_iterations} iterations are fewer than one phase (n_pi "
                f"{config.n_pi}): no auxiliary phase will run"
            )
        note_storage(config, display)
        segment = train_until_stopped(plan, start, session, stop)
        so_far = recorder.so_far(segment)
        finished = so_far.metrics["env_steps"].shape[1] == config.num_iterations
        result = Result(
            **{field.name: getattr(so_far, field.name) for field in dataclasses.fields(so_far)},
            state=gather(segment.states, plan.layout),
            finished=finished,
            stopped=None if finished else session.stopping.reason,
        )
        if result.stopped:
            display.note(f"stopped: {result.stopped}")
        spent = f"compiled in {result.compile_seconds:.1f} s, ran in {result.run_seconds:.1f} s"
        display.note(spent)
        policy = whole_policy(result.state, processes)
        if session.folder is not None:
            _write_results(session.folder, result, session, policy)
        processes.wait()
    result = dataclasses.replace(result, problems=tuple(recorder.problems))
    _warn(result, processes)
    return result


def train_until_stopped(
    plan: Plan,
    start: chex.PRNGKey | WarmStart | Start,
    session: Session,
    stop: StopRequest,
    hparams: Hyperparams | None = None,
) -> Segment:
    """Trains and records every segment, and returns the last one.

    Args:
      plan: what is trained, and how.
      start: random keys ``[S]``, or a state from which to continue.
      session: what accompanies it; its recorder is closed at the end.
      stop: says after each segment whether the user wants to stop.
      hparams: hyperparameters of each seed, leaves ``[S]``; None: those of the configuration.
    """
    config, layout, shared = plan.config, plan.layout, hparams is None
    hparams = hparams or config.hparams
    recorder, stopping = session.recorder, session.stopping
    segment: Segment | None = None
    try:
        if not (isinstance(start, Start) and stopping.reason):
            pace = dataclasses.replace(
                session.pace, compiled=stop.wait_for_segments, spent=plan.seconds
            )
            for segment in train_segments(config, layout, hparams, start, shared=shared, pace=pace):
                stop.passed(segment.run_seconds)
                segment = whole(segment, session.processes)
                recorder.take(segment)
                if stopping.ends(recorder, segment, stop.reason):
                    break
            if segment is not None:
                recorder.save(segment)
    finally:
        recorder.close()
    if isinstance(start, Start) and segment is None:  # nothing was left to train
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


def note_storage(config: Config, display: Display) -> None:
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


def _write_results(folder: Path, result: Result, session: Session, policy: TrainState) -> None:
    """Writes the summary, the learning curve, and the parameters and observation statistics."""
    recorder, summary = session.recorder, lambda: _summary(folder, result, session.processes)
    recorder.guard("summary.json", lambda: write_summary(folder, summary()))
    curve = folder / "learning_curve.png"
    recorder.guard(curve.name, lambda: write_figure(curve, result.plot(), dpi=150))
    recorder.guard("parameters", lambda: save_parameters(folder, policy))


def _summary(folder: Path, result: Result, processes: Processes) -> dict[str, Any]:
    several = {"processes": processes.count} if processes.count > 1 else {}
    summary = several | {
        "finished": result.finished,
        "stopped": result.stopped,
        "compile_seconds": round(result.compile_seconds, 3),
        "run_seconds": round(result.run_seconds, 3),
        "env_steps": int(result.metrics["env_steps"][:, -1].sum()),
        "env_steps_per_second": round(result.env_steps_per_second, 1),
        "final_episode_return": finite_or_none(result.final_returns),
        "first_bad_iteration": result.first_bad_iteration,
    }
    record = read_record(folder)
    return summary if record is None else summary | {"warm_start": record}
