"""A population of settings that is trained together, part by part, and of which some may end."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppg_jax.config import Config
from ppg_jax.execution import Pace, Start, Training, gather, plan_training, train_segments
from ppg_jax.runs import Display, StoppedError, StopRequest, laid_out
from ppg_jax.sweeps.groups import Group, make_groups
from ppg_jax.sweeps.settings import Setting
from ppg_jax.types import MetricArrays


@dataclasses.dataclass
class Member:
    """One setting in one environment, with its S seeds.

    Attributes:
      setting: what is trained. Its number is unique in the population.
      phases: number of phases that are done.
      metrics: metrics so far, ``[S, iterations]``.
      state: training states, leaves ``[S, ...]``; None before the first part.
    """

    setting: Setting
    phases: int = 0
    metrics: MetricArrays = dataclasses.field(default_factory=dict)
    state: Any = None

    @property
    def env_steps(self) -> int:
        """Environment steps of all seeds so far."""
        config = self.setting.config
        done = next(iter(self.metrics.values())).shape[1] if self.metrics else 0
        return done * config.steps_per_iteration * config.seeds

    def add(self, parts: Sequence[MetricArrays], state: Any, phases: int) -> None:
        """Takes the results of a part of the training."""
        old = [self.metrics] if self.metrics else []
        names = [*old, *parts][0]
        self.metrics = {
            name: np.concatenate([p[name] for p in (*old, *parts)], 1) for name in names
        }
        self.state, self.phases = state, phases


@dataclasses.dataclass(frozen=True)
class Watcher:
    """What a training tells, and asks, between two segments.

    Attributes:
      display: for messages.
      stop: whether the user wants to end.
    """

    display: Display
    stop: StopRequest


def train_part(config: Config, members: Sequence[Member], share: float, watch: Watcher) -> None:
    """Trains members on, up to a share of their runs. They are at the same share now.

    Members that differ only in hyperparameters are trained by one program.

    Args:
      config: configuration of the search, whose hyperparameters are the base of all.
      members: what to train; changed in place.
      share: of the whole run, above 0 and at most 1.
      watch: see there.

    Raises:
      StoppedError: the user ended the search. The members of the group that was trained then have
        their old state.
      ConfigError: the environment or the networks of a setting cannot be made.
    """
    by_number = {member.setting.number: member for member in members}
    for group in make_groups(config, [member.setting for member in members]):
        _train_group(group, [by_number[s.number] for s in group.settings], share, watch)


def phases_at(config: Config, share: float) -> int:
    """Number of phases after a share of a run, at least 1 if there are any."""
    return min(config.num_phases, max(1, round(share * config.num_phases)))


def steps_until(member: Member, share: float) -> int:
    """Environment steps of all seeds that are missing to a share of the run."""
    config = member.setting.config
    iterations = config.num_iterations
    if share < 1.0:
        iterations = phases_at(config, share) * config.n_pi
    return iterations * config.steps_per_iteration * config.seeds - member.env_steps


def _train_group(group: Group, members: list[Member], share: float, watch: Watcher) -> None:
    config, done = group.replicas, members[0].phases
    until = phases_at(config, share)
    if steps_until(members[0], share) == 0:
        return
    begun = bool(members[0].metrics)
    pace = Pace(most_phases=1, compiled=watch.stop.wait_for_segments)
    training = Training(config.seeds, shared=False, done=done if begun else None, pace=pace)
    plan = laid_out(plan_training(config, training, watch.display.note))
    parts, state = [], None
    for segment in train_segments(
        plan.config, plan.layout, group.hparams, _start(group, members), shared=False, pace=pace
    ):
        watch.stop.passed(segment.run_seconds)
        if watch.stop.requested:
            raise StoppedError
        parts.append(segment.metrics)
        if share < 1.0 and segment.phases >= until:
            break
    state = gather(segment.states, plan.layout)
    seeds = group.config.seeds
    for place, member in enumerate(members):
        own = slice(place * seeds, (place + 1) * seeds)
        member.add(
            [{name: x[own] for name, x in part.items()} for part in parts],
            jax.tree.map(lambda x, own=own: x[own], state),
            until,
        )


def _start(group: Group, members: Sequence[Member]) -> Any:
    if not members[0].metrics:
        return group.keys
    state = jax.tree.map(lambda *x: jnp.concatenate(x), *[member.state for member in members])
    return Start(state, members[0].phases)
