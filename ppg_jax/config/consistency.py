"""Checks across the fields of a configuration: one message for each conflict."""

import math
from collections.abc import Iterator
from typing import Any

MOST_ITERATIONS = 2**31 - 1
"""Largest number of iterations of a run: they are counted in int32 inside the program."""


def problems(config: Any) -> Iterator[str]:
    """Yields a message (field, value, remedy) for each conflict between fields.

    Each field of ``config`` has already been checked on its own.
    """
    yield from _size_problems(config)
    yield from _group_problems(config)
    yield from _memory_problems(config)


def _size_problems(c: Any) -> Iterator[str]:
    """Yields a message for each conflict between sizes and modes."""
    if c.arch == "separate" and c.e_aux > 0:
        yield (
            f"e_aux: {c.e_aux} does not work with arch separate, which is PPO and has no auxiliary "
            "phase; set e_aux to 0, or arch to dual"
        )
    if c.minibatch_by == "env" and c.num_envs % c.num_minibatches:
        yield (
            f"num_minibatches: {c.num_minibatches} does not divide num_envs {c.num_envs}; "
            f"{_divisor_hint(c.num_envs, c.num_minibatches)}"
        )
    if c.minibatch_by == "sample" and c.steps_per_iteration % c.num_minibatches:
        yield (
            f"num_minibatches: {c.num_minibatches} does not divide num_envs x num_steps "
            f"{c.steps_per_iteration}; {_divisor_hint(c.steps_per_iteration, c.num_minibatches)}"
        )
    sequences = c.n_pi * c.num_envs
    if c.e_aux > 0 and sequences % c.num_aux_minibatches:
        yield (
            f"num_aux_minibatches: {c.num_aux_minibatches} does not divide n_pi x num_envs "
            f"{sequences}; {_divisor_hint(sequences, c.num_aux_minibatches)}"
        )
    if c.aux_storage == "replay" and not c.e_aux:
        yield (
            "aux_storage: replay has no effect without an auxiliary phase; set e_aux to at least "
            "1, or aux_storage to auto"
        )
    if c.adapt_beta_clone and not c.e_aux:
        yield (
            "adapt_beta_clone: true needs an auxiliary phase; set e_aux to at least 1, or "
            "adapt_beta_clone to false"
        )
    if c.value_observation_key is not None and c.arch not in ("dual", "separate"):
        yield (
            f"value_observation_key: {c.value_observation_key!r} needs a value network of its own; "
            "set arch to dual or separate"
        )
    if c.num_levels is None and c.first_level:
        yield f"first_level: {c.first_level} has no effect without num_levels; set num_levels too"
    if c.num_levels is not None and c.first_level + c.num_levels > 2**31:
        yield (
            f"first_level: {c.first_level} is invalid; first_level + num_levels should be at most "
            f"{2**31}"
        )
    if c.chunk_size is not None and c.strategy not in ("auto", "chunk"):
        yield (
            f"chunk_size: {c.chunk_size} cannot be used with strategy {c.strategy}; set strategy "
            "to chunk, or leave chunk_size out"
        )
    if c.minibatch_by == "sample" and c.steps_per_iteration > 2**24:
        yield (
            f"num_steps: {c.num_steps} x num_envs {c.num_envs} samples are too many to shuffle; "
            f"use at most {2**24}, or minibatch_by env"
        )
    if c.num_iterations < 1:
        yield (
            f"total_timesteps: {c.total_timesteps} is less than one iteration of num_envs x "
            f"num_steps {c.steps_per_iteration}; use at least that many"
        )
    if c.num_iterations > MOST_ITERATIONS:
        yield (
            f"total_timesteps: {c.total_timesteps} gives {c.num_iterations} iterations of num_envs "
            f"x num_steps {c.steps_per_iteration}; use at most {MOST_ITERATIONS} iterations, which "
            f"is {MOST_ITERATIONS * c.steps_per_iteration} steps, or more num_envs or num_steps"
        )


def _group_problems(c: Any) -> Iterator[str]:
    """Yields a message for each conflict of sizes with the groups of environments."""
    groups, name = c.groups, "env_groups" if c.env_groups else "devices_per_seed"
    if groups % (c.devices_per_seed or 1):
        yield (
            f"env_groups: {groups} cannot be shared by devices_per_seed {c.devices_per_seed}; use "
            "a multiple of it"
        )
    if c.devices is not None and c.devices % (c.devices_per_seed or 1):
        yield (
            f"devices: {c.devices} is invalid; it should be a multiple of devices_per_seed "
            f"{c.devices_per_seed}"
        )
    if groups == 1:
        return
    if c.num_envs % groups:
        yield f"{name}: {groups} does not divide num_envs {c.num_envs}; use a divisor of it"
        return
    items, what = c.num_envs, "num_envs"
    if c.minibatch_by == "sample":
        items, what = c.steps_per_iteration, "num_envs x num_steps"
    sizes = [("num_minibatches", c.num_minibatches, items, what)]
    if c.e_aux > 0:
        sizes.append(
            ("num_aux_minibatches", c.num_aux_minibatches, c.n_pi * c.num_envs, "n_pi x num_envs")
        )
    for field, wanted, total, what in sizes:
        if total % wanted == 0 and (total // groups) % wanted:
            yield (
                f"{name}: {groups} groups cannot share the {field} {wanted} of {what} {total} "
                f"equally; use fewer groups, or as {field} a divisor of {total // groups}"
            )


def _memory_problems(c: Any) -> Iterator[str]:
    """Yields a message for each conflict with the memory, and for options that need a memory."""
    if c.network.memory == "none":
        if c.burn_in:
            yield (
                f"burn_in: {c.burn_in} has no effect without a memory; set network.memory, or "
                "burn_in to 0"
            )
        return
    if c.minibatch_by == "sample":
        yield (
            f"minibatch_by: sample cannot be used with network.memory {c.network.memory}, which "
            "needs whole sequences; use env"
        )
    if c.burn_in >= c.num_steps:
        yield (
            f"burn_in: {c.burn_in} leaves no step of num_steps {c.num_steps} to learn from; use a "
            "smaller value"
        )
        return
    steps = c.num_steps - c.burn_in
    if c.bptt_steps is not None and c.bptt_steps < steps and steps % c.bptt_steps:
        yield (
            f"bptt_steps: {c.bptt_steps} does not divide the {steps} steps of a sequence "
            f"(num_steps minus burn_in); {_divisor_hint(steps, c.bptt_steps)}"
        )


def _divisor_hint(total: int, wanted: int) -> str:
    """A hint that names the divisors of ``total`` closest to ``wanted``."""
    divisors = [d for d in range(1, total + 1) if total % d == 0]
    near = sorted(sorted(divisors, key=lambda d: (abs(math.log(d / wanted)), d))[:2])
    return "use " + " or ".join(map(str, near))
