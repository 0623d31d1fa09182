"""Which fields of a configuration do not fit together, a line for each."""

import math
from collections.abc import Iterator
from typing import Any


def problems(config: Any) -> Iterator[str]:
    """What is wrong with a ``Config`` whose fields are right one by one: field, value, remedy."""
    yield from _size_problems(config)
    yield from _memory_problems(config)


def _size_problems(c: Any) -> Iterator[str]:
    """Yields a line for each pair of fields that do not fit together."""
    if c.arch == "separate" and c.e_aux > 0:
        yield (
            f"e_aux: {c.e_aux} does not work with arch separate, whose networks share nothing to "
            "distil into; set e_aux to 0, or arch to dual"
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
    if c.adapt_beta_clone and not c.e_aux:
        yield "adapt_beta_clone: true needs an auxiliary phase; set e_aux to at least 1, or false"
    if c.num_levels is None and c.first_level:
        yield f"first_level: {c.first_level} does not go without num_levels; set that too"
    if c.num_levels is not None and c.first_level + c.num_levels > 2**31:
        yield f"first_level: {c.first_level} is invalid; levels are numbered below {2**31}"
    if c.chunk_size is not None and c.strategy not in ("auto", "chunk"):
        yield (
            f"chunk_size: {c.chunk_size} does not go with strategy {c.strategy}; set strategy to "
            "chunk, or leave chunk_size out"
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


def _memory_problems(c: Any) -> Iterator[str]:
    """Yields a line for each field that does not fit the memory, or needs one."""
    if c.network.memory == "none":
        if c.burn_in:
            yield f"burn_in: {c.burn_in} does nothing without a memory; set network.memory, or 0"
        return
    if c.minibatch_by == "sample":
        yield (
            f"minibatch_by: sample does not go with network.memory {c.network.memory}, which needs "
            "whole sequences; use env"
        )
    if c.burn_in >= c.num_steps:
        yield f"burn_in: {c.burn_in} leaves nothing of num_steps {c.num_steps}; use less"
        return
    steps = c.num_steps - c.burn_in
    if c.bptt_steps is not None and c.bptt_steps < steps and steps % c.bptt_steps:
        yield (
            f"bptt_steps: {c.bptt_steps} does not divide the {steps} steps of a sequence "
            f"(num_steps less burn_in); {_divisor_hint(steps, c.bptt_steps)}"
        )


def _divisor_hint(total: int, wanted: int) -> str:
    """The divisors next to what was asked for."""
    divisors = [d for d in range(1, total + 1) if total % d == 0]
    near = sorted(sorted(divisors, key=lambda d: (abs(math.log(d / wanted)), d))[:2])
    return "use " + " or ".join(map(str, near))
