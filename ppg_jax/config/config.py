"""``Config``: every field with its type, range and meaning, checked on construction."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from ppg_jax.config.consistency import problems
from ppg_jax.config.fields import (
    OBJECT,
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

_DEFAULT_NETWORK: Any = NetworkConfig()  # type: ignore[call-arg]  # every field has a default


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Config:
    """All settings of a run. Frozen and hashable; an invalid value raises ``ConfigError``.

    Fields are static, because they shape the compiled program. Only ``hparams`` may be traced.
    """

    env: Any = Field(
        "CartPole-v1",
        description="Environment: a gymnax id, suite/Id (ppg-jax list shows suites), a class as "
        "package.module:Class, or (from Python) an environment object.",
    )
    env_params: Settings = Field(
        FrozenMapping(), description="Changed parameters of the environment, by name."
    )
    env_kwargs: Settings = Field(
        FrozenMapping(), description="Arguments of the environment's constructor, by name."
    )
    observation_dtype: Literal["native", "bool", "uint8", "mixed"] = Field(
        "native",
        description="Dtype in which observations are stored. native: the environment's own; bool "
        "and uint8: compact, for environments that return floats but only the values 0 and 1 "
        "(bool) or 0 to 255 (uint8); mixed: flags and one-hot categories as single bits, all other "
        "components as floats. With bool an MLP also trains faster on CPU: its first layer skips "
        "components that are never set.",
    )
    observation_key: str | None = Field(
        None,
        description="Entry of the observations that the networks read, for environments whose "
        "observations have several parts (agent.position: a part of a part); default: all parts, "
        "joined to one vector.",
    )
    value_observation_key: str | None = Field(
        None,
        description="Entry of the observations that the value network reads instead, for example "
        "privileged_state; needs arch dual or separate.",
    )
    observation_scale: Annotated[Real, Field(gt=0)] | None = Field(
        None,
        description="Divisor of the observations; default 255 for byte images (uint8, two or more "
        "axes), otherwise 1.",
    )
    scale_actions: bool = Field(
        True,
        description="Scale continuous actions: -1 to 1 of the policy covers the full range of each "
        "bounded dimension; false: actions are only clipped to the action space.",
    )
    policy_distribution: Literal[
        "gaussian", "gaussian_state_std", "tanh_gaussian", "tanh_gaussian_state_std"
    ] = Field(
        "gaussian",
        description="Distribution over continuous actions. gaussian: independent normals, whose "
        "standard deviations are parameters; tanh_gaussian: the same through tanh, for actions "
        "with bounds; with _state_std the network computes the standard deviations.",
    )
    num_levels: Annotated[Count, Field(ge=1, lt=2**31)] | None = Field(
        None,
        description="Number of levels: each episode begins from one of this many fixed reset keys; "
        "default: every episode has a new key.",
    )
    first_level: Annotated[Count, Field(ge=0, lt=2**31)] = Field(
        0, description="Number of the first level; all other levels remain for held-out tests."
    )
    hide_components: tuple[Annotated[Count, Field(ge=0)], ...] = Field(
        (), description="Indices of the flattened observation that are always set to 0."
    )
    drop_observations: Annotated[Real, Field(ge=0, le=1)] = Field(
        0.0, description="Probability that a whole observation is replaced by zeros."
    )
    episodes_per_task: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Meta-learning: this many episodes of the same task count as one episode, and "
        "the memory is kept between them; default: every episode is on its own.",
    )
    seed: Annotated[Count, Field(ge=0, lt=2**32)] = Field(
        0, description="Seed of the run's random key, which is split into one key per training."
    )
    seeds: Annotated[Count, Field(ge=1)] = Field(
        1, description="Number of independent trainings in the run."
    )
    strategy: Literal["auto", "vmap", "map", "chunk"] = Field(
        "auto",
        description="How one program runs the seeds. vmap: all together; map: one after another; "
        "chunk: groups of chunk_size, one group after another; auto: map on CPU, elsewhere vmap, "
        "or chunk for more than 128 seeds or more than fit into memory.",
    )
    chunk_size: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Seeds that run together on a device with strategy chunk; default at most 128, "
        "and no more than fit into its memory, as the compiled program and the device say.",
    )
    devices: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Number of devices (on CPU: cores) that share the seeds; default as many as "
        "shorten the run.",
    )
    devices_per_seed: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Number of devices that share the environments of one seed; default 1, and "
        "more where there are more devices than seeds and it pays.",
    )
    env_groups: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Groups of a seed's environments. Each draws its own random numbers, and every "
        "minibatch has equally many samples of each. Default: devices_per_seed.",
    )
    total_timesteps: Annotated[Count, Field(ge=1, le=10**15)] = Field(
        1_000_000,
        description="Environment steps per seed, rounded down to whole iterations, of which there "
        "may be 2^31 - 1.",
    )
    num_envs: Annotated[Count, Field(ge=1)] = Field(
        64, description="Parallel environments per seed, B."
    )
    num_steps: Annotated[Count, Field(ge=1)] = Field(
        128, description="Steps per environment in a rollout, T."
    )
    arch: Literal["dual", "detach", "single", "shared", "separate"] = Field(
        "dual",
        description="Networks. dual: two, as in the PPG paper; detach: one, where the gradient of "
        "the value head never reaches the encoder; single: one, where it does not reach it in the "
        "policy phase; shared: PPO with one network; separate: PPO with two.",
    )
    n_pi: Annotated[Count, Field(ge=1)] = Field(
        32, description="Policy iterations (rollout and update) per phase."
    )
    e_pi: Annotated[Count, Field(ge=1)] = Field(1, description="Policy epochs per iteration.")
    e_v: Annotated[Count, Field(ge=1)] = Field(
        1,
        description="Value epochs per iteration. If this differs from e_pi, the value epochs come "
        "first and have their own optimizer.",
    )
    e_aux: Annotated[Count, Field(ge=0)] = Field(
        6, description="Epochs per auxiliary phase; 0: no auxiliary phase, which is PPO."
    )
    aux_storage: Literal["auto", "full", "packed", "replay"] = Field(
        "auto",
        description="How the auxiliary phase's observations are kept. full: as they are; packed: "
        "single bits for components that are always 0 or 1, which also makes rollouts smaller; "
        "replay: not at all, the environments are stepped again when they are read; auto: chosen "
        "by what fits into memory. The numbers of a run are the same, except with replay where "
        "environments compute with rounding (physics).",
    )
    num_minibatches: Annotated[Count, Field(ge=1)] = Field(
        8, description="Minibatches per policy or value epoch."
    )
    num_aux_minibatches: Annotated[Count, Field(ge=1)] = Field(
        128,
        description="Minibatches per auxiliary epoch; each holds the whole sequences of some "
        "(iteration, environment) pairs.",
    )
    minibatch_by: Literal["env", "sample"] = Field(
        "env",
        description="Content of a policy-phase minibatch. env: whole sequences of some "
        "environments; sample: single samples.",
    )
    burn_in: Annotated[Count, Field(ge=0)] = Field(
        0,
        description="Steps at the beginning of every sequence that only warm up the memory; they "
        "have no loss.",
    )
    bptt_steps: Annotated[Count, Field(ge=1)] | None = Field(
        None,
        description="Length of backpropagation through time, in steps; default: the whole "
        "sequence.",
    )
    gradient_conflict: Annotated[
        Literal["off", "measure", "project", "balance"], BeforeValidator(yaml_off)
    ] = Field(
        "off",
        description="Treatment of policy and value gradients where both train the same encoder or "
        "memory. measure: report their cosine; project: remove the part of each that opposes the "
        "other (PCGrad); balance: weight them to equal norms.",
    )
    adapt_beta_clone: bool = Field(
        False,
        description="Adapt beta_clone after every auxiliary phase, so that clone_kl comes close to "
        "clone_kl_target.",
    )
    normalize_advantages: Annotated[
        Literal["batch", "minibatch", "off"], BeforeValidator(yaml_off)
    ] = Field(
        "batch",
        description="Normalise advantages over the rollout (batch), over each minibatch, or not.",
    )
    normalize_rewards: bool = Field(
        True, description="Divide rewards by the standard deviation of their discounted sums."
    )
    normalize_observations: bool = Field(
        False,
        description="Standardise observations by running statistics, frozen within a phase.",
    )
    lr_schedule: Literal["constant", "linear"] = Field(
        "constant",
        description="Schedule of learning_rate: constant, or linear towards 0 over the run.",
    )
    aux_lr_schedule: Literal["constant", "linear"] = Field(
        "constant",
        description="Schedule of aux_learning_rate: constant, or linear towards 0 over the phases.",
    )
    network: NetworkConfig = Field(_DEFAULT_NETWORK, description="Structure of the networks.")
    hparams: Hyperparams = Field(Hyperparams(), description="Numbers that may be traced by JAX.")

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
    def groups(self) -> int:
        """Number of groups of a seed's environments."""
        return self.env_groups or self.devices_per_seed or 1

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps per iteration, T x B."""
        return self.num_steps * self.num_envs

    @property
    def num_iterations(self) -> int:
        """Number of iterations in the run."""
        return self.total_timesteps // self.steps_per_iteration

    @property
    def num_phases(self) -> int:
        """Number of complete phases (``n_pi`` iterations each) in the run."""
        return self.num_iterations // self.n_pi

    @property
    def num_tail_iterations(self) -> int:
        """Iterations after the last complete phase; no auxiliary phase follows them."""
        return self.num_iterations % self.n_pi

    def replace(self, **changes: Any) -> "Config":
        """A copy with some fields changed. All fields are checked again."""
        return dataclasses.replace(self, **changes)

    @property
    def env_name(self) -> str:
        """The environment's id, or the name of its class or object."""
        if not isinstance(self.env, str):
            return str(getattr(self.env, "name", type(self.env).__name__))
        if self.env.startswith(OBJECT):
            return self.env.removeprefix(OBJECT).removesuffix(">")
        return self.env.rpartition(":")[2]

    def to_dict(self) -> dict[str, Any]:
        """All fields as a plain mapping, ready for YAML. ``config_from_dict`` reads it back.

        A file cannot store an environment object, so the object becomes ``<object NAME>``. The
        name alone could be mistaken for a registered environment of the same name.
        """
        env = self.env if isinstance(self.env, str) else f"{OBJECT}{self.env_name}>"
        fields: dict[str, Any] = _plain(dataclasses.replace(self, env=env))
        encoder = self.network.encoder
        if not isinstance(encoder, str):
            named = encoder if isinstance(encoder, type) else type(encoder)
            fields["network"]["encoder"] = f"{OBJECT}{named.__name__}>"
        return fields


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value


with_clear_errors(Config)


def config_from_dict(fields: Mapping[str, Any]) -> Config:
    """A ``Config`` from a plain mapping, such as one read from YAML.

    Args:
      fields: values by field name; ``network`` and ``hparams`` are mappings themselves. Missing
        fields take their defaults.

    Raises:
      ConfigError: a name is unknown or a value is invalid.
    """
    if not isinstance(fields, Mapping):
        raise ConfigError(f"config: {type(fields).__name__} is invalid; it should be a mapping")
    for name in fields:
        if not isinstance(name, str):
            raise ConfigError(f"config: the key {name!r} is invalid; it should be a field name")
    fields = {
        name: {} if name in ("network", "hparams") and value is None else value
        for name, value in nested(fields).items()
    }
    return Config(**fields)
