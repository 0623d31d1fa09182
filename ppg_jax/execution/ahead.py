"""Compiles the programs of several trainings side by side, while others train."""

import contextlib
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self

import jax

from ppg_jax.config import Config
from ppg_jax.execution.dispatch import placed
from ppg_jax.execution.fitting import Plan, Training, plan_training, storages
from ppg_jax.execution.layout import layouts_here
from ppg_jax.execution.segments import batched_scalars, lower_all, programs
from ppg_jax.execution.sharing import share_seeds


class Ahead:
    """Compiles trainings before they begin. A training then finds its programs compiled.

    Python traces in the caller's thread, because JAX's settings may apply only to this thread. XLA
    compiles in other threads. The compiled programs are kept where the training looks for them
    (``program_cache``), so no result depends on whether they were compiled ahead.

    Args:
      workers: number of programs that are compiled at the same time.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, "ahead")
        self._compiling: dict[Hashable, list[Future[Any]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def begin(self, name: Hashable, config: Config, training: Training) -> None:
        """Begins to compile a training, once. What is wrong with it is raised when it begins."""
        if name in self._compiling:
            return
        found = self._compiling[name] = []
        with contextlib.suppress(Exception):
            plan = _likely_plan(config, training)
            parts = programs(
                plan.config, plan.layout, training.shared, done=training.done, pace=training.pace
            )
            arguments = _shapes(plan, training)
            for lowered in lower_all([part[0] for part in parts], plan.layout, *arguments):
                found.append(self._pool.submit(lowered.compile))

    def finish(self, name: Hashable) -> None:
        """Waits until a training that was begun is compiled."""
        wait(self._compiling.get(name, ()))


def _likely_plan(config: Config, training: Training) -> Plan:
    """What ``plan_training`` will probably choose; nothing is compiled to find it."""
    layout = layouts_here(share_seeds(config, training.replicas), training.replicas)[0]
    if layout.backend.threads:
        return plan_training(config, training)
    return Plan(storages(share_seeds(config, training.replicas))[0], layout)


def _shapes(plan: Plan, training: Training) -> tuple[Any, Any]:
    """Shapes of hyperparameters and random keys, the arguments of a training's first program."""
    layout = plan.layout
    hparams = placed(batched_scalars(plan.config, layout, training.shared), layout,
                     same=training.shared)  # fmt: skip
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), layout.batch_size))
    return hparams, placed(keys, layout)
