"""Which loss reaches which parameters: the table of architectures, phase by phase."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppg_jax.algorithm.initial_state import init
from ppg_jax.algorithm.train import train_phases, train_tail
from ppg_jax.config.config import Config
from tests import probes

pytestmark = pytest.mark.slow

ENV = probes.ActionMustMatch()
HEADS = ("policy_head", "value_head", "aux_value_head")


def config(arch, phase, **changes):
    """One iteration; ``n_pi`` 2 keeps it a tail, which no auxiliary phase follows."""
    e_aux = 0 if arch == "separate" else 2
    fields = {
        "env": ENV, "arch": arch, "num_envs": 4, "num_steps": 4, "num_minibatches": 2,
        "num_aux_minibatches": 2, "n_pi": 2, "e_aux": e_aux, "normalize_rewards": False,
        "total_timesteps": 16 if phase == "policy" else 32, "network": {"hidden_sizes": (8,)},
    }  # fmt: skip
    return Config(**(fields | changes))


def moved(before, after):
    """Names of the networks' parts whose parameters changed."""
    names = set()
    for net, parts in before.items():
        for part, tree in parts.items():
            same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), tree, after[net][part])
            if not all(jax.tree.leaves(same)):
                names.add(f"{net}.{part}")
    return names


def policy_phase(c):
    state = init(c, jax.random.key(0))
    after, _ = jax.jit(train_tail, static_argnums=0)(c, c.hparams, state)
    return moved(state.params, after.params)


def aux_phase(c, **hparams):
    """Only the auxiliary phase: its policy phase has learning rate 0."""
    state = init(c, jax.random.key(0))
    after, _ = a_phase(c, c.hparams.replace(learning_rate=0.0, **hparams), state, 1)
    return moved(state.params, after.params)


# Hyperparameters are arguments, so that an architecture's phase is compiled once for all tests.
a_phase = jax.jit(train_phases, static_argnums=(0, 3))


P, V = "policy_net.", "value_net."
ONE_NET = {P + "encoder", P + "policy_head", P + "value_head"}
POLICY_PHASE = {
    "dual": {P + "encoder", P + "policy_head", V + "encoder", V + "value_head"},
    "separate": {P + "encoder", P + "policy_head", V + "encoder", V + "value_head"},
    "detach": ONE_NET,
    "single": ONE_NET,
    "shared": ONE_NET,
}


@pytest.mark.parametrize("epochs", [(1, 1), (1, 2)], ids=["joint", "apart"])
@pytest.mark.parametrize("arch", POLICY_PHASE)
def test_policy_phase_moves_exactly_its_parts(arch, epochs):
    e_pi, e_v = epochs
    c = config(arch, "policy", e_pi=e_pi, e_v=e_v)
    assert policy_phase(c) == POLICY_PHASE[arch]


@pytest.mark.parametrize("arch", ["dual", "detach", "single", "shared"])
def test_auxiliary_phase_moves_exactly_its_parts(arch):
    want = POLICY_PHASE[arch] | {P + "aux_value_head"}
    assert aux_phase(config(arch, "aux")) == want


def encoder_after(c, params):
    """The policy's encoder after one phase from the same start."""
    state = init(c, jax.random.key(0))
    train = train_phases if c.num_phases else train_tail
    rest = (1,) if c.num_phases else ()
    statics = (0, 3) if rest else (0,)
    hparams = c.hparams.replace(**params)
    return jax.jit(train, static_argnums=statics)(c, hparams, state, *rest)[0].params["policy_net"]


@pytest.mark.parametrize(
    ("arch", "reaches"),
    [("dual", 0), ("separate", 0), ("detach", 0), ("single", 0), ("shared", 1)],
)
def test_whether_the_policy_phases_value_loss_reaches_the_policys_encoder(arch, reaches):
    # If it does, its weight matters to the encoder.
    c = config(arch, "policy")
    light, heavy = (encoder_after(c, {"value_coef": w})["encoder"] for w in (0.1, 10.0))
    gap = max(
        np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (light, heavy)), strict=True)
    )
    assert (gap > 1e-5) == bool(reaches)


@pytest.mark.parametrize(("arch", "reaches"), [("detach", 0), ("single", 1), ("shared", 1)])
def test_whether_the_auxiliary_phases_value_loss_reaches_the_encoder(arch, reaches):
    # The value head's own parameters shape the encoder's gradient only through that head.
    c = config(arch, "aux")
    state = init(c, jax.random.key(0))
    hparams = c.hparams.replace(learning_rate=0.0)

    def encoder(state):
        return jax.tree.leaves(a_phase(c, hparams, state, 1)[0].params["policy_net"]["encoder"])

    head = state.params["policy_net"]["value_head"]
    flipped = state.params["policy_net"] | {"value_head": jax.tree.map(jnp.negative, head)}
    other = state.replace(params={"policy_net": flipped})
    # Targets come from the value head too, so hold them: with gamma 0 they are the rewards.
    hparams = hparams.replace(gamma=0.0, gae_lambda=0.0)
    gap = max(np.abs(a - b).max() for a, b in zip(encoder(state), encoder(other), strict=True))
    assert (gap > 1e-5) == bool(reaches)


@pytest.mark.parametrize("arch", ["dual", "detach"])
def test_the_auxiliary_head_trains_the_policys_encoder(arch):
    # Without the KL, and with targets the value head cannot pass on, only the aux head is left.
    parts = aux_phase(config(arch, "aux"), beta_clone=0.0)
    assert P + "encoder" in parts
    assert P + "policy_head" not in parts
