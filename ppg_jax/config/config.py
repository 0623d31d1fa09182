"""The configuration: every field with its type, range and meaning, checked when it is made."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field

from ppg_jax.config.consistency import problems
from ppg_jax.config.fields import (
    STRICT,
    ConfigError,
    Count,
    FrozenMapping,
    Real,
    Settings,
    env_reference,
    nested,
    with_clear_errors,
    yaml_off,
)
from ppg_jax.config.hyperparams import Hyperparams
from ppg_jax.config.network import NetworkConfig

OBJECT = "<object "
"""How the name of an environment begins that was an object, which no file can hold."""


def _countable(steps: int) -> int:
    if steps >= 2**31:  # counted in int32 inside the program
        raise ValueError(f"must be at most {2**31 - 1:,} for now; more is planned")
    return steps


_DEFAULT_NETWORK: Any = NetworkConfig()  # type: ignore[call-arg]  # every field has a default


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Config:
    """Everything that decides a run. Frozen and hashable; a bad value raises ``ConfigError``.

    Fields are static (they shape the program), except ``hparams``, which may be traced.
    """

    env: Any = Field(
        "CartPole-v1",
        description="Id of a gymnax environment, package.module:Class, or (from Python) an "
        "environment object.",
    )
    env_params: Settings = Field(
        FrozenMapping(), description="Changes to the environment's parameters, by name."
    )
    env_kwargs: Settings = Field(
        FrozenMapping(), description="Arguments for making the environment, by name."
    )
    observation_dtype: Literal["native", "bool", "uint8"] = Field(
        "native",
        description="How observations are kept: as the environment gives them, or compactly where "
        "it returns float though every value is 0/1 (bool) or 0..255 (uint8). With bool an MLP "
        "also trains faster on CPU: its first layer leaves out what is never set.",
    )
    observation_scale: Annotated[Real, Field(gt=0)] | None = Field(
        None,
        description="Observations are divided by this; default 255 for byte images (uint8, two or "
        "more axes), otherwise 1.",
    )
    scale_actions: bool = Field(
        True,
        description="A policy's -1 to 1 is the whole of a bounded dimension of a continuous "
        "action; false: actions are only clipped to the space.",
    )
    num_levels: Annotated[Count, Field(ge=1, lt=2**31)] | None = Field(
        None,
        description="Episodes begin in one of so many fixed ways (levels); default: no two alike.",
    )
    first_level: Annotated[Count, Field(ge=0, lt=2**31)] = Field(
        0, description="Number of the first of these levels; others are left to be held out."
    )
    hide_components: tuple[Annotated[Count, Field(ge=0)], ...] = Field(
        (), description="Numbers of the (flattened) observation that are always 0."
    )
    drop_observations: Annotated[Real, Field(ge=0, le=1)] = Field(
        0.0, description="Probability with which a whole observation is 0."
    )
    episodes_per_task: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Episodes of the environment that make up one of ours: the same task again and "
        "again, remembered in between (meta-learning); default: one, and nothing is kept.",
    )
    seed: Annotated[Count, Field(ge=0, lt=2**32)] = Field(
        0, description="Seed of the run's random key; each of the seeds gets a split of it."
    )
    seeds: Annotated[Count, Field(ge=1)] = Field(
        1, description="How many independent trainings run side by side."
    )
    strategy: Literal["auto", "vmap", "map", "chunk"] = Field(
        "auto",
        description="How seeds run by one program: together (vmap), in turn (map), or in turn some "
        "together (chunk); auto: map on CPU, otherwise vmap, many in chunks.",
    )
    chunk_size: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Seeds that run together on a device where strategy is chunk; default at most "
        "128, and what its memory may hold.",
    )
    devices: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Devices, on CPU cores, that share the seeds; default all that are of use.",
    )
    total_timesteps: Annotated[Count, Field(ge=1), AfterValidator(_countable)] = Field(
        1_000_000, description="Environment steps of each seed, cut to whole iterations."
    )
    num_envs: Annotated[Count, Field(ge=1)] = Field(64, description="Parallel environments, B.")
    num_steps: Annotated[Count, Field(ge=1)] = Field(
        128, description="Steps of each environment in a rollout, T."
    )
    arch: Literal["dual", "detach", "single", "shared", "separate"] = Field(
        "dual",
        description="dual: paper's two networks; detach, single: one network, value gradient kept "
        "from the encoder always / in the policy phase; shared: PPO's one network; separate: PPO's "
        "two.",
    )
    n_pi: Annotated[Count, Field(ge=1)] = Field(
        32, description="Policy-phase iterations of a phase."
    )
    e_pi: Annotated[Count, Field(ge=1)] = Field(1, description="Policy epochs of an iteration.")
    e_v: Annotated[Count, Field(ge=1)] = Field(
        1,
        description="Value epochs of an iteration; if not e_pi, they come first, with an optimizer "
        "of their own.",
    )
    e_aux: Annotated[Count, Field(ge=0)] = Field(
        6, description="Epochs of an auxiliary phase; 0: none, which is PPO."
    )
    num_minibatches: Annotated[Count, Field(ge=1)] = Field(
        8, description="Minibatches of a policy or value epoch."
    )
    num_aux_minibatches: Annotated[Count, Field(ge=1)] = Field(
        128, description="Minibatches of an auxiliary epoch, of (iteration, environment) sequences."
    )
    minibatch_by: Literal["env", "sample"] = Field(
        "env",
        description="Policy-phase minibatches hold whole sequences of some environments, or single "
        "samples.",
    )
    burn_in: Annotated[Count, Field(ge=0)] = Field(
        0,
        description="Steps at the beginning of every sequence that only bring the memory up to "
        "date: nothing is learnt from them.",
    )
    bptt_steps: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Steps that gradients go back through the memory; default whole sequences.",
    )
    gradient_conflict: Annotated[
        Literal["off", "measure", "project", "balance"], BeforeValidator(yaml_off)
    ] = Field(
        "off",
        description="Policy and value gradient where they share an encoder or memory. measure: "
        "their cosine; project: each without what opposes the other (PCGrad); balance: weighted to "
        "equal norms.",
    )
    adapt_beta_clone: bool = Field(
        False,
        description="Scale beta_clone after every auxiliary phase so that clone_kl comes near "
        "clone_kl_target.",
    )
    normalize_advantages: Annotated[
        Literal["batch", "minibatch", "off"], BeforeValidator(yaml_off)
    ] = Field("batch", description="Over the rollout, over each minibatch, or not at all.")
    normalize_rewards: bool = Field(
        True, description="Divide rewards by the deviation of their discounted sums."
    )
    normalize_observations: bool = Field(
        False, description="Standardise observations; statistics are frozen within a phase."
    )
    lr_schedule: Literal["constant", "linear"] = Field(
        "constant", description="learning_rate over the run: constant, or linearly towards 0."
    )
    aux_lr_schedule: Literal["constant", "linear"] = Field(
        "constant", description="aux_learning_rate over the phases, likewise."
    )
    network: NetworkConfig = Field(_DEFAULT_NETWORK, description="Shape of the networks.")
    hparams: Hyperparams = Field(Hyperparams(), description="Numbers that may be traced.")

    @pydantic.field_validator("env", mode="before")
    @classmethod
    def _check_env(cls, value: Any) -> Any:
        return env_reference(value)

    @pydantic.model_validator(mode="after")
    def _check_sizes(self) -> "Config":
        for problem in problems(self):
            raise ValueError(problem)
        return self

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one iteration, T x B."""
        return self.num_steps * self.num_envs

    @property
    def num_iterations(self) -> int:
        """Iterations of the whole run."""
        return self.total_timesteps // self.steps_per_iteration

    @property
    def num_phases(self) -> int:
        """Whole phases of ``n_pi`` iterations in the run."""
        return self.num_iterations // self.n_pi

    @property
    def num_tail_iterations(self) -> int:
        """Iterations after the last whole phase; they train without an auxiliary phase."""
        return self.num_iterations % self.n_pi

    def replace(self, **changes: Any) -> "Config":
        """A copy with some fields changed, checked anew."""
        return dataclasses.replace(self, **changes)

    @property
    def env_name(self) -> str:
        """The environment's id, or the name of an environment's class or object."""
        if not isinstance(self.env, str):
            return str(getattr(self.env, "name", type(self.env).__name__))
        if self.env.startswith(OBJECT):
            return self.env.removeprefix(OBJECT).removesuffix(">")
        return self.env.rpartition(":")[2]

    def to_dict(self) -> dict[str, Any]:
        """Plain mapping of every field, ready for YAML; ``config_from_dict`` reads it back.

        An environment object, which no file can hold, stands there as ``<object NAME>``: by its
        name alone it could be taken for another.
        """
        env = self.env if isinstance(self.env, str) else f"{OBJECT}{self.env_name}>"
        fields: dict[str, Any] = _plain(dataclasses.replace(self, env=env))
        return fields


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value


with_clear_errors(Config)


def config_from_dict(fields: Mapping[str, Any]) -> Config:
    """A ``Config`` from a plain mapping, as read from YAML.

    Args:
      fields: names and values; ``network`` and ``hparams`` are mappings themselves. What is left
        out takes its default.

    Raises:
      ConfigError: an unknown name or a bad value.
    """
    if not isinstance(fields, Mapping):
        raise ConfigError(f"config: {type(fields).__name__} is invalid; it should be a mapping")
    for name in fields:
        if not isinstance(name, str):
            raise ConfigError(f"config: the key {name!r} is no name")
    fields = {
        name: {} if name in ("network", "hparams") and value is None else value
        for name, value in nested(fields).items()
    }
    return Config(**fields)
